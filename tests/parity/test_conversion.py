"""``flava weights convert`` in every direction: what it writes computes the same, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from converting import (
    ENDINGS,
    all_forms,
    convert,
    file_of_ours,
    same,
    tensors,
    weights,
)
from safetensors.torch import load_file, save_file

from flava_plugin.model.weights import to_hugging_face, to_torchmultimodal
from flava_plugin.model.weights_file import Settings, read_safetensors
from flava_plugin.model.weights_probe import build_ours, probes, run_ours
from flava_plugin.model.weights_shapes import sizes_of


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return all_forms(tmp_path)


@pytest.mark.parametrize("goal", ENDINGS)
@pytest.mark.parametrize("origin", ENDINGS)
def test_each_way_and_back(
    sources: dict[str, Path],
    tmp_path: Path,
    origin: str,
    goal: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there, back = tmp_path / f"there{ENDINGS[goal]}", tmp_path / f"back{ENDINGS[origin]}"
    heads = ("--heads", "4")
    capsys.readouterr()
    assert convert(sources[origin], there, "--to", goal, *heads, "--from", origin) == 0
    table = capsys.readouterr().out
    assert convert(there, back, "--to", origin, *heads) == 0
    assert same(tensors(back), tensors(sources[origin]))
    for quantity in ("image_projected", "fused", "loss.mmm_text", "loss.contrastive", "loss.itm"):
        assert f"\n{quantity} " in table
    assert "admitted: 1e-05" in table
    if {origin, goal} == {"torchmultimodal", "hugging_face"}:
        assert "norm_eps" in table
        assert "of padded pairs, what the multimodal encoder makes is not compared" in table
    assert not list(tmp_path.glob(".tmp-*"))


def test_hugging_face_reads_its_folder_whole(sources: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    for kind in ("FlavaForPreTraining", "FlavaModel"):
        model, told = getattr(transformers, kind).from_pretrained(
            sources["hugging_face"], output_loading_info=True
        )
        assert not told["missing_keys"] and not told["mismatched_keys"]
        state = model.state_dict()
        expected = to_hugging_face(weights(), model_only=kind == "FlavaModel")
        assert same({name: state[name] for name in expected}, expected)


def test_what_hugging_face_saves_itself(sources: dict[str, Path], tmp_path: Path) -> None:
    """Its own file lacks one of a bias's two names; a large one comes in shards."""
    transformers = pytest.importorskip("transformers")
    model = transformers.FlavaForPreTraining.from_pretrained(sources["hugging_face"])
    for name, size in (("one", "1GB"), ("shards", "40KB")):
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        ours = tmp_path / f"{name}.safetensors"
        assert convert(tmp_path / name, ours, "--to", "flava_plugin") == 0
        state, settings = read_safetensors(ours)
        assert same(state, weights())
        assert settings == Settings((4, 4, 4), 1e-12, "masked")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    index = tmp_path / "shards" / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"] = {name: "../one/model.safetensors" for name in told["weight_map"]}
    index.write_text(json.dumps(told))
    assert convert(tmp_path / "shards", tmp_path / "x.safetensors", "--to", "flava_plugin") == 2


def test_torchmultimodal_reads_its_file_strictly(sources: dict[str, Path], tmp_path: Path) -> None:
    state = load_file(sources["torchmultimodal"])
    assert same(state, to_torchmultimodal(weights()))
    pickled = tmp_path / "theirs.pt"
    assert convert(sources["torchmultimodal"], pickled, "--to", "torchmultimodal", "--heads=4") == 0
    assert same(torch.load(pickled, weights_only=True), state)
    again = tmp_path / "again.safetensors"
    assert convert(pickled, again, "--to", "flava_plugin", "--heads", "4,4,4") == 0
    found, settings = read_safetensors(again)
    assert same(found, weights())
    assert settings == Settings((4, 4, 4), 1e-5, "released")


@pytest.mark.parametrize("goal", ENDINGS)
def test_the_model_alone(tmp_path: Path, goal: str) -> None:
    source, target = file_of_ours(tmp_path), tmp_path / f"model{ENDINGS[goal]}"
    assert convert(source, target, "--to", goal, "--model-only") == 0
    expected = {
        "torchmultimodal": to_torchmultimodal(weights(), model_only=True),
        "hugging_face": to_hugging_face(weights(), model_only=True),
        "flava_plugin": {n: v for n, v in weights().items() if n.startswith("backbone.")},
    }
    assert same(tensors(target), expected[goal])
    whole = tmp_path / "back.safetensors"
    assert convert(target, whole, "--to", "flava_plugin", "--heads", "4") == 0


def test_some_heads_and_foreign_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some, target = file_of_ours(tmp_path, "itm", "mlm"), tmp_path / "face"
    assert convert(some, target, "--to", "hugging_face") == 0
    assert "no weights for mim, mmm_text, mmm_image, contrastive" in capsys.readouterr().out
    foreign = tmp_path / "foreign.safetensors"
    metadata = Settings((4, 4, 4), 1e-5, "masked").metadata()
    save_file({**weights(), "heads.vqa.w": torch.ones(2)}, foreign, metadata)
    assert convert(foreign, tmp_path / "no.safetensors", "--to", "torchmultimodal") == 2
    assert "heads.vqa.w: is unknown" in capsys.readouterr().err
    only = ("--to", "torchmultimodal", "--model-only")
    assert convert(foreign, tmp_path / "yes.safetensors", *only) == 0


@pytest.mark.parametrize("peer", ["torchmultimodal", "hugging_face"])
def test_gradients_from_converted_weights(peer: Any) -> None:
    """Per tensor at most 5e-5 of its largest, as from torchmultimodal's own weights."""
    if peer == "hugging_face":
        pytest.importorskip("transformers")
        from flava_plugin.model.hugging_face import build_face as build
        from flava_plugin.model.hugging_face import run_face as run

        to, norm_eps, padding = to_hugging_face, 1e-12, "masked"
    else:
        from flava_plugin.model.weights_upstream import build_upstream as build
        from flava_plugin.model.weights_upstream import run_upstream as run

        to, norm_eps, padding = to_torchmultimodal, 1e-5, "released"
    state = weights()
    sizes, settings = sizes_of(state), Settings((4, 4, 4), norm_eps, padding)
    learner, theirs = build_ours(state, sizes, settings), build(state, sizes, settings)
    for probe, batch in probes(sizes).items():
        learner.zero_grad()
        theirs.zero_grad()
        found, expected = run_ours(learner, batch), run(theirs, batch, sizes)
        losses = [name for name in expected if name.startswith("loss.")]
        sum(expected[name] for name in losses).backward()
        sum(found[name] for name in losses).backward()
        own = to(
            {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}, partial=True
        )
        grads = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
        scale = max(float(grad.abs().max()) for grad in grads.values())
        for name, grad in grads.items():
            largest = float(grad.abs().max())
            if name.endswith("key.bias"):  # zero but for rounding: a shift of all keys is unseen
                largest = scale
            assert float((own[name] - grad).abs().max()) <= 5e-5 * largest, (probe, name)
