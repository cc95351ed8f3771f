"""``flava profile``: sections add up to the step, and nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flava_plugin.cli.main import main
from flava_plugin.plan import profile as module
from flava_plugin.recipe import load_recipe
from flava_plugin.train import step as step_module
from flava_plugin.train.profiling import SECTIONS, Sections, watch
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from tests.tiny_flava import pair_batch, tiny_learner

TINY = ("data.global_batch=8", "data.per_gpu_batch=4", "data.workers=0", "device=cpu")


def test_sections_add_up_to_the_step(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    recipe = load_recipe("pretrain/shapes", [*TINY, f"run_dir={tmp_path / 'run'}"])
    found = module.profile(recipe, steps=3, trace=trace)
    assert [each.kind for each in found.kinds] == ["image", "text", "pair"]
    for each in found.kinds:
        assert sum(each.sections.values()) == pytest.approx(each.step, rel=0.02)
        spent = {name for name, seconds in each.sections.items() if seconds > 0}
        assert {"waiting for data", "backward", "optimiser", "heads and losses"} <= spent
        assert ("image encoder" in spent) == (each.kind != "text")
        assert ("text encoder" in spent) == (each.kind != "image")
        assert ("multimodal encoder" in spent) == (each.kind == "pair")
        assert ("codebook" in spent) == (each.kind != "text")
    assert any("mm" in op.name and op.seconds > 0 for op in found.operations)
    events = {str(event.get("name")) for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"flava: pair step", "flava: image encoder", "flava: backward"} <= events
    assert not (tmp_path / "run").exists()


def test_time_belongs_to_the_innermost_section(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr("flava_plugin.train.profiling.time.perf_counter", lambda: next(ticks))
    sections = Sections(torch.device("cpu"))
    sections.start()
    sections.enter("heads and losses")
    sections.enter("image encoder")
    sections.leave()
    sections.leave()
    spent = {name: seconds for name, seconds in sections.stop().items() if seconds}
    assert spent == {"other": 1.0 + 5.0, "heads and losses": 2.0 + 4.0, "image encoder": 3.0}
    assert set(spent) <= set(SECTIONS)


def test_recomputation_is_the_backwards() -> None:
    sections = Sections(torch.device("cpu"))
    sections.start()
    sections.enter("backward")
    sections.enter("image encoder")
    sections.leave()
    sections.leave()
    assert sections.stop()["image encoder"] == 0


def test_watching_leaves_no_trace_and_changes_no_number() -> None:
    world = World(0, 1, 0, torch.device("cpu"))
    recipe = load_recipe("pretrain/shapes", TINY)
    learner = tiny_learner()
    strategy = make_strategy(recipe.sharding, learner, recipe.optim, world)
    weights = dict.fromkeys(learner.heads, 1.0)
    before = dict(vars(strategy)), dict(vars(world)), step_module.differentiate
    plain = train_step(strategy, learner, [pair_batch()], weights, world, (0, 0))
    sections = Sections(world.device)
    sections.start()
    with watch(sections, learner, strategy, world):
        assert step_module.differentiate is not before[2]
        watched = train_step(strategy, learner, [pair_batch()], weights, world, (0, 0))
    assert sections.stop()["backward"] > 0
    assert watched == plain
    assert (dict(vars(strategy)), dict(vars(world)), step_module.differentiate) == before
    assert "with_codes" not in vars(learner)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in learner.modules())


def test_the_command_prints_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "pretrain/shapes", *TINY, "--steps", "1", "--kind", "text"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("text: ")
    assert "text encoder" in told and "image encoder" not in told
    assert "aten::" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.global_batch=7"], "per_gpu_batch"),
        (["--kind", "image", "data.sources.images=null", "objectives.mim=null"], "--kind image"),
        (["--trace", "no/such/folder/x.json"], "no such folder"),
        (["optim.lrr=1"], "optim.lrr"),
    ],
    ids=str,
)
def test_a_bad_recipe_is_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "pretrain/shapes", *TINY, *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is a folder"),
        ("empty.json", "is a folder"),
        ("notes.json", "is there already"),
        ("trace.txt", ".json"),
        ("trace.json.gz", ".json"),
    ],
)
def test_a_trace_never_takes_another_s_place(
    name: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("steps ran")

    monkeypatch.setattr(module, "profile", never)
    (tmp_path / "empty.json").mkdir()
    (tmp_path / "notes.json").write_text("mine")
    before = sorted(tmp_path.iterdir())
    assert main(["profile", "pretrain/shapes", *TINY, "--trace", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "notes.json").read_text() == "mine"
