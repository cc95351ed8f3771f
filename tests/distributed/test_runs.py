"""Whole runs of several processes: saving, stopping, failing and going on elsewhere."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from flava_plugin.train import checkpoint

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))
from tiny_run import lines, write_recipe  # noqa: E402


class Run:
    """The processes of a run."""

    def __init__(self, folder: Path, size: int, *overrides: str) -> None:
        self.run_dir = folder / "run"
        self.logs = [folder / f"log_{rank}" for rank in range(size)]
        recipe = write_recipe(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
        command = [sys.executable, "-m", "flava_plugin", "train", str(recipe), *overrides]
        self.processes = []
        for rank in range(size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
            environment = clean | meeting | own if size > 1 else clean | {"OMP_NUM_THREADS": "1"}
            with self.logs[rank].open("wb") as log:
                self.processes.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                )

    def text(self) -> str:
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in self.logs)

    def codes(self, timeout: float = 120) -> list[int]:
        """Wait for every process; its exit code."""
        deadline = time.monotonic() + timeout
        try:
            return [p.wait(max(0.1, deadline - time.monotonic())) for p in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a process hangs after {timeout} s:\n{self.text()}") from None
        finally:
            for process in self.processes:
                process.kill()

    def wait_for_step(self, step: int, timeout: float = 120) -> None:
        path, deadline = self.run_dir / "metrics.jsonl", time.monotonic() + timeout
        while not path.is_file() or path.read_bytes().count(b"\n") < step:
            assert time.monotonic() < deadline and self.processes[0].poll() is None, self.text()
            time.sleep(0.005)

    def finish(self) -> Run:
        assert self.codes() == [0] * len(self.processes), self.text()
        return self


def losses(run_dir: Path) -> torch.Tensor:
    keys = {"step", "kind", "source", "lr", "grad_norm"}
    rows = [{k: v for k, v in row.items() if k not in keys} for row in lines(run_dir)]
    return torch.tensor([float(sum(map(float, row.values()))) for row in rows])


def assert_same_losses(run: Run, reference: Run) -> None:
    mine, other = losses(run.run_dir), losses(reference.run_dir)
    assert len(mine) == len(other)
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


# Dropout is drawn by rank, so runs of other sizes are the same only without it.
STILL = ("model.text_encoder.dropout=0", "optim.eps=1e-4")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("alone"), 1, *STILL).finish()


def test_a_sharded_run_is_stopped_on_one_rank_and_goes_on_under_another_strategy_and_size(
    tmp_path: Path, reference: Run
) -> None:
    sharded = ("checkpoint.format=sharded", "sharding.strategy=fsdp2")
    first = Run(tmp_path, 2, *STILL, *sharded, "data.per_gpu_batch=2")
    first.wait_for_step(3)
    first.processes[1].send_signal(signal.SIGUSR2)
    assert first.codes() == [0, 0], first.text()
    stopped = checkpoint.find(first.run_dir)
    assert 3 <= stopped.step < 12 and stopped.parts == 2
    again = Run(tmp_path, 4, *STILL, "sharding.strategy=ddp")
    again.wait_for_step(stopped.step + 2)
    again.processes[0].send_signal(signal.SIGUSR2)
    assert again.codes() == [0] * 4, again.text()
    assert checkpoint.find(again.run_dir).parts is None
    last = Run(tmp_path, 1, *STILL).finish()
    assert_same_losses(last, reference)


def test_evaluation_during_a_sharded_run_sees_the_whole_model(tmp_path: Path) -> None:
    task = "evaluate.tasks.itm={type: matching, dataset: {type: shapes_pairs, size: 32}}"
    every = ("evaluate.every=2", "evaluate.metric=itm.accuracy", task, "steps=4", *STILL)
    alone = Run(tmp_path / "alone", 1, *every).finish()
    sharded = Run(tmp_path / "sharded", 2, *every, "sharding.strategy=fsdp2").finish()
    texts = [(run.run_dir / "evaluations.jsonl").read_text() for run in (alone, sharded)]
    assert len(texts[0].splitlines()) == 2
    assert [t.count("accuracy") for t in texts] == [2, 2]
    assert checkpoint.find(sharded.run_dir, "best").step in (2, 4)
    assert_same_losses(sharded, alone)


def test_a_killed_rank_ends_the_others_and_the_run_goes_on_from_the_last_save(
    tmp_path: Path, reference: Run
) -> None:
    run = Run(tmp_path, 2, *STILL, "sharding.strategy=ddp", "checkpoint.every=2")
    run.wait_for_step(5)
    run.processes[1].kill()
    codes = run.codes()
    assert codes[0] not in (0, -9) and codes[1] == -9, run.text()
    assert checkpoint.find(run.run_dir).step >= 2
    assert_same_losses(Run(tmp_path, 1, *STILL).finish(), reference)


def test_a_rank_that_hangs_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    run = Run(tmp_path, 2, *STILL, "sharding.strategy=ddp", "sharding.timeout=5")
    run.wait_for_step(2)
    run.processes[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert run.processes[0].wait(60) not in (0, -9), run.text()
    finally:
        run.processes[1].kill()
        run.codes()
    assert time.monotonic() - began < 60
    assert "Traceback" not in run.logs[0].read_text(), run.text()


def test_the_later_of_two_incarnations_wins(tmp_path: Path) -> None:
    first = Run(tmp_path, 1, *STILL, "steps=4000", "checkpoint.every=2", "metrics.every=1")
    first.wait_for_step(3)
    second = Run(tmp_path, 1, *STILL, "steps=4000", "checkpoint.every=2", "metrics.every=1")
    assert first.codes()[0] == 1
    second.processes[0].send_signal(signal.SIGTERM)
    assert second.codes()[0] == 143, second.text()
