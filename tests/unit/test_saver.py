from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flava_plugin.sections import CheckpointSection, OptimSection, ShardingSection
from flava_plugin.train import checkpoint, run_folder, saving
from flava_plugin.train.saver import Saver
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.world import World

ALONE = World(0, 1, 0, torch.device("cpu"))
STATE = {"seconds": 2.0}


@pytest.fixture(params=["full", "sharded"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Saver:
    section = CheckpointSection(keep=2, format=request.param)
    return Saver(tmp_path, section, ALONE, run_folder.claim(tmp_path), 8)


@pytest.fixture
def strategy() -> Strategy:
    model = nn.Linear(3, 2)
    made = make_strategy(ShardingSection(strategy="none"), model, OptimSection(), ALONE)
    made.backward(model(torch.ones(1, 3)).sum())
    made.step()
    return made


def held_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Keep every write from starting until the event is set."""
    may = threading.Event()

    def wait(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            assert may.wait(30)
            return write(*args, **options)

        return call

    for name in ("save", "save_part"):
        monkeypatch.setattr(saving, name, wait(getattr(saving, name)))
    return may


def settled(saver: Saver) -> bool:
    saver.settle(saver.flags())
    return saver._pending is None


def test_a_step_does_not_wait_for_the_disk_and_sees_its_own_weights(
    saver: Saver, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = held_back(monkeypatch)
    saved = {name: tensor.clone() for name, tensor in strategy.module.state_dict().items()}
    with saver:
        saver.save(strategy, 3, STATE)
        assert saver.flags().tolist() == [0, 0]
        assert not settled(saver)
        with torch.no_grad():  # training goes on
            for parameter in strategy.module.parameters():
                parameter.add_(1)
        assert checkpoint.newest(tmp_path) is None
        may.set()
        saver.finish()
        found = checkpoint.find(tmp_path)
    assert found.step == 3
    assert all(torch.equal(found.model()[name], tensor) for name, tensor in saved.items())
    assert found.optim()["weight"]["step"] == 1
    assert '"steps": 3' in (tmp_path / "summary.json").read_text()


def test_it_is_published_at_a_later_step_boundary(
    saver: Saver, strategy: Strategy, tmp_path: Path
) -> None:
    deadline = time.monotonic() + 30
    with saver:
        saver.save(strategy, 3, STATE, best=True)
        while not settled(saver):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert checkpoint.find(tmp_path, "best").step == 3


def test_a_save_waits_for_the_one_before_it_and_says_so(
    saver: Saver,
    strategy: Strategy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    may = held_back(monkeypatch)
    with saver:
        saver.save(strategy, 3, STATE)
        threading.Timer(0.2, may.set).start()
        saver.save(strategy, 4, STATE)
        assert checkpoint.find(tmp_path).step == 3
    assert "checkpoint.every is shorter than a save takes" in caplog.text


def test_a_failed_write_stops_the_run_and_leaves_the_checkpoint_before_it(
    saver: Saver, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with saver:
        saver.save(strategy, 3, STATE)
        saver.finish()
        monkeypatch.setattr("flava_plugin.train.tensor_files.write_file", full)
        saver.save(strategy, 4, STATE)
        with pytest.raises(OSError, match=r"cannot save step 4.*No space left"):
            saver.finish()
    assert checkpoint.find(tmp_path).step == 3


def test_a_later_attempt_ends_this_one(saver: Saver, strategy: Strategy, tmp_path: Path) -> None:
    with saver:
        saver.save(strategy, 3, STATE)
        saver.finish()
        run_folder.claim(tmp_path)
        saver.save(strategy, 4, STATE)
        with pytest.raises(run_folder.LostClaimError):
            saver.finish()
    assert checkpoint.find(tmp_path).step == 3


def test_an_error_in_the_loop_does_not_cut_a_write_short(
    strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = held_back(monkeypatch)
    saver = Saver(tmp_path, CheckpointSection(), ALONE, run_folder.claim(tmp_path), 8)
    with pytest.raises(RuntimeError, match="the loop failed"), saver:
        saver.save(strategy, 3, STATE)
        threading.Timer(0.2, may.set).start()
        raise RuntimeError("the loop failed")
    assert checkpoint.find(tmp_path).step == 3
