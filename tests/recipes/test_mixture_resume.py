"""Runs whose shares change: killed between two changes and right at one, they go on exactly."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import lines, signal_at, start, write_recipe

from flava_plugin.recipe import load_recipe
from flava_plugin.train import checkpoint
from flava_plugin.train.loop import train

NEED = {"strategy": {"type": "need", "every": 5, "floor": 0.2, "decay": 0.5, "strength": 4.0}}
# Each rank draws dropout for itself, so runs of other sizes are the same only without it.
STILL = ("model.text_encoder.dropout=0", "optim.eps=1e-4")


def run(folder: Path, *overrides: str, mixture: object = NEED) -> Path:
    train(load_recipe(str(write_recipe(folder, mixture=mixture)), [*STILL, *overrides]))
    return folder / "run"


def killed(folder: Path, step: int, *overrides: str) -> int:
    """Kill a run without warning; tells what it had saved."""
    process = start(write_recipe(folder, mixture=NEED), *STILL, *overrides)
    signal_at(process, folder / "run", step, signal.SIGKILL)
    process.communicate()
    found = checkpoint.newest(folder / "run")
    return found.step if found else 0


def assert_same_run(run_dir: Path, reference: Path) -> None:
    assert lines(run_dir) == lines(reference)
    for file in ("model.safetensors", "optim.safetensors"):
        own, other = (load_file(checkpoint.find(r).folder / file) for r in (run_dir, reference))
        assert all(torch.equal(own[name], other[name]) for name in own), file


def segments(run_dir: Path) -> list[list[object]]:
    found = json.loads((checkpoint.find(run_dir).folder / "state.json").read_text())
    made: list[list[object]] = found["mixture"]["segments"]
    return made


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    return run(tmp_path_factory.mktemp("reference"))


def test_shares_change_at_fixed_steps_and_are_told(reference: Path) -> None:
    told = {row["step"]: row["shares"] for row in lines(reference) if "shares" in row}
    assert list(told) == [1, 6, 11]
    assert told[1] == {"pairs": 0.5, "images": 0.25, "sentences": 0.25}
    assert told[1] != told[6] != told[11]
    assert [segment[0] for segment in segments(reference)] == [0, 5, 10]


@pytest.mark.parametrize("every", [4, 5], ids=["between decisions", "at a decision"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, reference: Path, every: int) -> None:
    saved = killed(tmp_path, 7, f"checkpoint.every={every}")
    assert saved % every == 0
    assert_same_run(run(tmp_path, "data.workers=2", "data.prefetch=4"), reference)


def forget(run_dir: Path, step: int) -> None:
    """Drop a checkpoint, as if the run had been killed before."""
    shutil.rmtree(run_dir / f"checkpoints/{step:08d}")
    (run_dir / "checkpoints/latest").unlink()


def test_a_run_goes_on_with_two_processes(tmp_path: Path, reference: Path) -> None:
    shutil.copytree(reference, tmp_path / "run", symlinks=True)
    forget(tmp_path / "run", 12)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    recipe = write_recipe(tmp_path, mixture=NEED)
    process = start(recipe, *STILL, "sharding.strategy=ddp", launcher=launcher)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 0, text
    for both, alone in zip(lines(tmp_path / "run"), lines(reference), strict=True):
        assert both.keys() == alone.keys()
        for key, value in alone.items():
            if isinstance(value, float):
                assert both[key] == pytest.approx(value, abs=1e-5, rel=1e-4), (key, alone["step"])
            elif key != "shares":
                assert both[key] == value, (key, alone["step"])


def test_a_source_left_out_of_a_phase_is_not_read(tmp_path: Path) -> None:
    phases = {
        "pictures": {"first": 0, "shares": {"images": 1}},
        "joint": {"first": 3, "shares": {"images": 1, "sentences": 1, "pairs": 2}},
    }
    mixture = {"strategy": {"type": "curriculum", "phases": phases}}
    sources = ("pairs", "images", "sentences")
    none = [f"data.sources.{name}.share=null" for name in sources]
    whole = lines(run(tmp_path / "whole", "steps=8", *none, mixture=mixture))
    assert [row["source"] for row in whole[:3]] == ["images"] * 3
    assert {row["source"] for row in whole[3:]} == set(sources)
    run(tmp_path, "steps=8", *none, "checkpoint.every=2", mixture=mixture)
    forget(tmp_path / "run", 8)
    assert lines(run(tmp_path, "steps=8", *none, mixture=mixture)) == whole
