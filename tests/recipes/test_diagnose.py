"""Runs that are diagnosed, while they train and afterwards."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import stop_after
from tiny_run import lines, write_recipe

from flava_plugin.balance_record import BalanceRecord, read_records
from flava_plugin.cli.main import main
from flava_plugin.recipe import load_recipe
from flava_plugin.train import checkpoint
from flava_plugin.train.loop import train
from flava_plugin.train.requeue import Stopped

EVERY = "balance.diagnose.every=4"


def run(folder: Path, *overrides: str) -> Path:
    train(load_recipe(str(write_recipe(folder)), list(overrides)))
    return folder / "run"


def records(run_dir: Path) -> list[BalanceRecord]:
    return read_records((run_dir / "balance.jsonl").read_text())


def same_weights(one: Path, other: Path) -> bool:
    for file in ("model.safetensors", "optim.safetensors"):
        own, theirs = (load_file(checkpoint.find(r).folder / file) for r in (one, other))
        if own.keys() != theirs.keys() or not all(torch.equal(own[n], theirs[n]) for n in own):
            return False
    return True


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("diagnosed"), EVERY, "metrics.tensorboard=true")


def test_a_diagnosed_run_is_the_run_without(tmp_path: Path, diagnosed: Path) -> None:
    plain = run(tmp_path)
    assert not (plain / "balance.jsonl").exists()
    assert same_weights(diagnosed, plain)
    assert [row for row in lines(diagnosed) if row["kind"] != "balance"] == lines(plain)


def test_what_a_diagnosis_leaves(diagnosed: Path) -> None:
    found = records(diagnosed)
    assert [record.step for record in found] == [4, 8, 12]
    last = found[-1]
    assert set(last.objectives) == {"mim", "mlm", "mmm_image", "mmm_text", "itm", "contrastive"}
    assert last.weights["itm"] == 4 and last.weights["mim"] == 1
    assert last.rates["mim"] == 0.25 and last.rates["itm"] == 0.5
    image = last.norms("image")
    assert image["mim"] > 0 and image["contrastive"] > 0 and image["mlm"] == 0
    assert sum(last.shares("fused").values()) == pytest.approx(1)
    assert last.losses != found[0].losses
    rows = [row for row in lines(diagnosed) if row["kind"] == "balance"]
    assert [row["step"] for row in rows] == [4, 8, 12]
    events = EventAccumulator(str(diagnosed / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("balance_norm/image/mim")] == [4, 8, 12]


def test_a_run_goes_on_with_its_diagnoses(
    tmp_path: Path, diagnosed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(6, signal.SIGTERM, patched)
        with pytest.raises(Stopped):
            run(tmp_path, EVERY)
    resumed = run(tmp_path, EVERY)
    assert records(resumed) == records(diagnosed)
    assert lines(resumed) == lines(diagnosed) and same_weights(resumed, diagnosed)


def test_a_kept_checkpoint_is_diagnosed_afterwards_as_while_training(
    tmp_path: Path, diagnosed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run(tmp_path)
    assert main(["balance", str(plain)]) == 0
    text = capsys.readouterr().out
    assert "step 12" in text and "cosine of gradients" in text
    expected = records(diagnosed)[1:]  # the checkpoint of step 4 is gone
    assert records(plain) == expected
    assert main(["balance", str(plain), "--checkpoint", "8", "--parts"]) == 0
    assert "fused encoder: cosine of gradients" in capsys.readouterr().out


def test_no_run_no_diagnosis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["balance", str(tmp_path)]) == 2
    assert "no run here" in capsys.readouterr().err


def test_diagnoses_may_begin_in_a_run_that_goes_on(
    tmp_path: Path, diagnosed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(6, signal.SIGTERM, patched)
        with pytest.raises(Stopped):
            run(tmp_path)
    resumed = run(tmp_path, EVERY)
    assert records(resumed) == records(diagnosed)[1:] and same_weights(resumed, diagnosed)
