"""What ``flava weights convert`` refuses, and what it leaves behind then: nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from converting import all_forms, convert, file_of_ours, weights
from safetensors.torch import load_file, save_file
from torch import Tensor

from flava_plugin.cli import weights_convert
from flava_plugin.model.weights import to_torchmultimodal


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return all_forms(tmp_path)


def test_wrong_heads_are_seen_where_the_source_says_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = file_of_ours(tmp_path)
    assert convert(source, tmp_path / "face", "--to", "hugging_face", "--heads", "2") == 2
    assert "--heads says (2, 2, 2), but the source says (4, 4, 4)" in capsys.readouterr().err


def test_a_result_that_differs_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = file_of_ours(tmp_path), tmp_path / "theirs.safetensors"
    mapped = weights_convert.to_torchmultimodal

    def confused(state: Mapping[str, Tensor], **options: Any) -> dict[str, Tensor]:
        swap = {"query": "key", "key": "query"}
        found = mapped(state, **options)
        first = "model.text_encoder.encoder.layer.0.attention."
        return {
            **found,
            **{f"{first}{one}.weight": found[f"{first}{two}.weight"] for one, two in swap.items()},
        }

    monkeypatch.setattr(weights_convert, "to_torchmultimodal", confused)
    assert convert(source, target, "--to", "torchmultimodal") == 1
    output = capsys.readouterr()
    assert "no file is left" in output.err
    assert "loss.mlm" in output.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.safetensors"]


def test_a_target_is_not_overwritten_unasked(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = sources["flava_plugin"]
    for name in ("torchmultimodal", "hugging_face"):
        assert convert(ours, sources[name], "--to", name) == 2
        assert "exists; --force replaces it" in capsys.readouterr().err
        assert convert(ours, sources[name], "--to", name, "--force") == 0
    (sources["hugging_face"] / "notes.txt").write_text("mine")
    assert convert(ours, sources["hugging_face"], "--to", "hugging_face", "--force") == 2
    assert (sources["hugging_face"] / "notes.txt").read_text() == "mine"
    assert convert(ours, ours, "--to", "flava_plugin", "--force") == 2
    assert convert(ours, tmp_path / "no" / "x.safetensors", "--to", "flava_plugin") == 2
    assert convert(ours, tmp_path / "x.bin", "--to", "torchmultimodal") == 2
    assert convert(ours, tmp_path / "x.pt", "--to", "hugging_face") == 2


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil, went_off = tmp_path / "evil.pt", tmp_path / "went_off"
    torch.save({**to_torchmultimodal(weights()), "x": Bomb(went_off)}, evil)
    assert convert(evil, tmp_path / "x.safetensors", "--to", "flava_plugin") == 2
    assert "evil.pt: refused. A file of this kind can run code" in capsys.readouterr().err
    assert not went_off.exists()


def test_hostile_sources(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.safetensors"

    def refused(source: Path, *parts: str) -> None:
        assert convert(source, target, "--to", "flava_plugin", "--heads", "4") == 2
        message = capsys.readouterr().err
        assert all(part in message for part in parts), message
        assert not target.exists()

    state = load_file(sources["torchmultimodal"])
    broken = tmp_path / "broken.safetensors"
    name, other = "model.image_projection.bias", "model.text_encoder.layernorm.weight"
    save_file({**{n: v for n, v in state.items() if n != name}, other: torch.ones(3)}, broken)
    refused(broken, f"{name}: is missing", f"{other}: is (3,), and to fit the rest (32,)")
    save_file({**state, "model.extra": torch.ones(3)}, broken)
    refused(broken, "model.extra: is unknown")
    save_file({"bert.w": torch.ones(2)}, broken)
    refused(broken, "broken.safetensors: these are not the names of a FLAVA", "bert.w")
    save_file(state, broken)
    broken.write_bytes(broken.read_bytes()[:5000])
    refused(broken, "no readable safetensors file")
    (tmp_path / "list.pt").write_bytes(b"")
    refused(tmp_path / "list.pt", "list.pt: refused")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds a list, and not tensors by name")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "neither a folder of Hugging Face's", "nor a run folder")
    refused(tmp_path / "none", "no such file or folder")
    face = tmp_path / "face"
    shutil.copytree(sources["hugging_face"], face)
    refused(face / "model.safetensors", "name the folder")
    config = json.loads((face / "config.json").read_text())
    config["text_config"] |= {"hidden_act": "relu", "layer_norm_eps": 1e-5}
    (face / "config.json").write_text(json.dumps(config))
    refused(face, "text_config.hidden_act: 'relu'", "text_config.layer_norm_eps: 1e-05")
    (face / "config.json").write_text('{"model_type": "bert"}')
    refused(face, "model_type is 'bert'")
    (face / "config.json").write_text("{")
    refused(face, "config.json: no JSON")


def test_without_transformers_there_is_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert convert(file_of_ours(tmp_path), tmp_path / "face", "--to", "hugging_face") == 2
    assert "pip install 'flava-plugin[hugging-face]'" in capsys.readouterr().err
