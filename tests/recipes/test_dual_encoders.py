"""CLIP's and ALIGN's dual encoders train, go on and are measured as FLAVA is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from dual_run import write_dual
from safetensors.torch import load_file
from tiny_run import lines, start

import flava_plugin
from flava_plugin.cli.main import main
from flava_plugin.evaluate import export
from flava_plugin.recipe import load_recipe
from flava_plugin.train import checkpoint
from flava_plugin.train.loop import train

NAMES = ("clip", "align")


def run(folder: Path, name: str, *changes: str) -> Path:
    train(load_recipe(str(write_dual(folder, name)), list(changes)))
    return folder / "run"


@pytest.fixture(scope="module", params=NAMES)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp(str(request.param)), str(request.param), "steps=10")


def name_of(run_dir: Path) -> str:
    clip = "clip_image" in (run_dir / "recipe.yaml").read_text()
    return "clip" if clip else "align"


def test_ten_steps_are_five_and_five_more_bit_for_bit(tmp_path: Path, reference: Path) -> None:
    """The schedule is of ten steps both times; the first start ends at the fifth."""
    name = name_of(reference)
    with pytest.MonkeyPatch.context() as patched:
        from flava_plugin.train.requeue import Stopped, StopRequest

        seen = iter(range(1, 100))
        flags = StopRequest.flags
        patched.setattr(
            StopRequest,
            "flags",
            lambda own: torch.tensor([1.0, 0.0, 0.0]) if next(seen) == 5 else flags(own),
        )
        with pytest.raises(Stopped):
            run(tmp_path, name, "steps=10")
    assert checkpoint.find(tmp_path / "run").step == 5
    again = run(tmp_path, name, "steps=10")
    assert lines(again) == lines(reference) and len(lines(again)) == 10
    for file in ("model.safetensors", "optim.safetensors"):
        own, other = (load_file(checkpoint.find(r).folder / file) for r in (again, reference))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own)


def test_micro_batches_do_not_change_the_losses(tmp_path: Path, reference: Path) -> None:
    name = name_of(reference)
    steady = ("model.image_encoder.stochastic_depth=0",) if name == "align" else ()
    whole = run(tmp_path / "whole", name, "steps=4", *steady)
    parts = run(tmp_path / "parts", name, "steps=4", "data.per_gpu_batch=2", *steady)
    for one, other in zip(lines(whole), lines(parts), strict=True):
        assert other["contrastive"] == pytest.approx(one["contrastive"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_train_as_one(tmp_path: Path, name: str) -> None:
    steady = ("model.image_encoder.stochastic_depth=0",) if name == "align" else ()
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    changes = ("steps=4", "sharding.strategy=ddp", *steady)
    process = start(write_dual(tmp_path, name), *changes, launcher=launcher)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 0, text
    one = run(tmp_path / "one", name, "steps=4", *steady)
    for pair, single in zip(lines(tmp_path / "run"), lines(one), strict=True):
        assert pair.keys() == single.keys()
        for key, value in single.items():
            if isinstance(value, float):
                assert pair[key] == pytest.approx(value, abs=1e-5, rel=1e-5), key


def test_what_it_cannot_do_is_said_and_the_rest_is_measured(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        "evaluate.tasks.masked={type: masked_tokens, dataset: {type: shapes_pairs, size: 8}}",
        "evaluate.tasks.itm={type: matching, dataset: {type: shapes_pairs, size: 8}}",
        "evaluate.tasks.ask={type: questions,"
        " dataset: {type: shapes_questions, kind: color, size: 8}}",
        "evaluate.tasks.probe={type: linear_probe, label: class, reads: image, iterations: 3,"
        " dataset: {type: shapes_images, objects: 1, size: 60}}",
    ]
    assert main(["eval", str(reference), "--split", "dev", *tasks]) == 0
    told = capsys.readouterr().out
    results = json.loads((reference / "results.json").read_text())
    assert results["retrieval"]["gallery_size"] == 16 and results["probe"]["test"] == 60
    why = {task: results[task]["cannot"] for task in ("masked", "itm", "ask")}
    assert "none of mmm_text, mmm_image, mlm, mim; it has contrastive" in why["masked"]
    assert "no objective 'itm' in this run's recipe; it has contrastive" in why["itm"]
    assert "model.fused_encoder is null" in why["ask"]
    page = (reference / "report.html").read_text()
    for task, reason in why.items():
        assert f"{task}  cannot: {reason}" in told
        assert f"{task}: cannot, " in page
    assert main(["eval", str(reference), "--tasks", "itm", *tasks]) == 2
    assert "no objective 'itm'" in capsys.readouterr().err


def test_what_reads_both_together_is_refused_by_name(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = flava_plugin.load(reference)
    picture, null = model.recipe.data.image.size, "model.fused_encoder is null"
    from PIL import Image

    black = Image.new("RGB", (picture, picture))
    assert model.score([black], ["a", "b"]).shape == (1, 2)
    with pytest.raises(ValueError, match=null):
        model.encode_pair([black], ["a red square"])
    assert main(["export", str(reference), str(tmp_path / "x"), "--part", "fused"]) == 2
    here = tuple(int(word) for word in torch.__version__.split(".")[:2])
    # an older torch exports nothing at all
    assert (null if here >= export.NEEDED else "torch") in capsys.readouterr().err
    assert main(["weights", "convert", str(reference), str(tmp_path / "y"), "--to", "hugging_face"])
    assert null in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
