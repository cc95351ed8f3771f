"""Runs whose weights move: killed between two changes and right at one, they go on exactly."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import lines, signal_at, start, write_recipe

from flava_plugin.recipe import load_recipe
from flava_plugin.train import checkpoint
from flava_plugin.train.loop import train

NAMES = ["mim", "mlm", "mmm_image", "mmm_text", "itm", "contrastive"]
STRATEGIES: dict[str, dict[str, Any]] = {
    "gradient_norm": {"strategy": {"type": "gradient_norm", "every": 3}},
    "ema": {"strategy": {"type": "ema", "decay": 0.5}},
    "uncertainty": {"strategy": "uncertainty"},
    "famo": {"strategy": "famo"},
    "accumulated": {"strategy": "famo", "step": "accumulated"},
    "surgery": {"strategy": "surgery", "step": "accumulated"},
}


def run(folder: Path, balance: dict[str, Any], *overrides: str) -> Path:
    train(load_recipe(str(write_recipe(folder, balance=balance)), ["steps=8", *overrides]))
    return folder / "run"


def state(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkpoint.find(run_dir).folder / "state.json").read_text())
    return found


def assert_same_run(run_dir: Path, reference: Path) -> None:
    assert lines(run_dir) == lines(reference)
    assert state(run_dir)["balance"] == state(reference)["balance"]
    for file in ("model.safetensors", "optim.safetensors"):
        own, other = (load_file(checkpoint.find(r).folder / file) for r in (run_dir, reference))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own), file


def forget(run_dir: Path) -> None:
    """Drop the last checkpoint, as if the run had been killed before it."""
    shutil.rmtree(run_dir / "checkpoints/00000008")
    (run_dir / "checkpoints/latest").unlink()


@pytest.fixture(autouse=True)
def library(request: pytest.FixtureRequest) -> None:
    """Stand in for torchjd, which is an extra, by a weighting of two lines."""
    from flava_plugin.components import surgery

    patch = request.getfixturevalue("monkeypatch")
    patch.setattr(surgery, "find_spec", lambda name: name)

    def weighting(table: torch.Tensor) -> torch.Tensor:
        return 1 / table.diagonal().sqrt() + 0.1 * torch.rand(len(table), dtype=table.dtype)

    patch.setattr(surgery.Surgery, "_torchjd", property(lambda _: weighting))


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    """From step 4, between two measurements, and from step 6, where there has just been one."""
    whole = run(tmp_path / "whole", STRATEGIES[name])
    told = [row["step"] for row in lines(whole) if "weights" in row]
    if name == "surgery":
        assert not told
    elif name == "gradient_norm":
        assert told == [1, 4, 7]
    else:
        assert told == list(range(1, 9))
    weights = state(whole)["balance"]["weights"]
    assert list(weights) == NAMES and all(weight > 0 for weight in weights.values())
    shutil.copytree(whole, tmp_path / "run", symlinks=True)
    forget(tmp_path / "run")
    assert_same_run(run(tmp_path, STRATEGIES[name], "data.workers=1"), whole)
    often = run(tmp_path / "often", STRATEGIES[name], "checkpoint.every=3")
    forget(often)
    assert_same_run(run(tmp_path / "often", STRATEGIES[name]), whole)


@pytest.mark.parametrize("step", ["interleaved", "accumulated"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, step: str) -> None:
    balance = {"strategy": {"type": "gradient_norm", "every": 2}, "step": step}
    process = start(write_recipe(tmp_path, balance=balance), "steps=8", "checkpoint.every=2")
    signal_at(process, tmp_path / "run", 4, signal.SIGKILL)
    process.communicate()
    found = checkpoint.newest(tmp_path / "run")
    assert found is None or found.step < 8
    whole = run(tmp_path / "whole", balance)
    assert_same_run(run(tmp_path, balance), whole)


def test_an_accumulated_step_has_a_batch_of_each_kind(tmp_path: Path) -> None:
    done = run(tmp_path, {"step": "accumulated"}, "steps=2", "balance.diagnose.every=2")
    rows = [row for row in lines(done) if row["kind"] != "balance"]
    assert {(row["kind"], row["source"]) for row in rows} == {
        ("pair+image+text", "pairs+images+sentences")
    }
    assert all(set(NAMES) <= row.keys() for row in rows)
    summary = json.loads((done / "summary.json").read_text())
    assert summary["samples_per_s"] * summary["seconds"] == pytest.approx(2 * 3 * 8, rel=0.01)
    record = json.loads((done / "balance.jsonl").read_text())
    assert set(record["rates"].values()) == {1.0}
