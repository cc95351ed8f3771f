"""``--executor debug`` and ``local``, to their end, without SLURM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flava_plugin.launch import ledger, states
from tests.launch.small_runs import profile, recipe, submit
from tests.recipes.tiny_run import lines

Capture = pytest.CaptureFixture[str]
DEADLINE = 120


def start(*words: object) -> subprocess.Popen[str]:
    """Start ``flava submit --executor local`` with two processes in a process of its own."""
    command = [sys.executable, "-m", "flava_plugin", "submit", "--executor", "local"]
    return subprocess.Popen(
        [*command, "--tasks-per-node", "2", *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def wait_for_step(run: subprocess.Popen[str], run_dir: Path, step: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while len(lines(run_dir)) < step:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline, f"no step {step} in {run_dir}"
        time.sleep(0.01)


def test_debug_runs_in_this_process(tmp_path: Path, capsys: Capture) -> None:
    words = ["--executor", "debug", "--cluster", profile(tmp_path, environment={"DEBUGGED": "1"})]
    said = submit(capsys, recipe(tmp_path, steps=3), *words)
    assert said.code == 0, said.err
    assert len(lines(tmp_path / "run")) == 3
    assert "3 steps done" in said.out
    assert "DEBUGGED" not in os.environ
    assert not (tmp_path / "run" / "logs").exists()


def test_debug_ends_with_the_code_of_the_run(tmp_path: Path, capsys: Capture) -> None:
    words = ["--executor", "debug", "optim.lr=1e30", "optim.warmup_steps=0", "optim.clip_norm=null"]
    said = submit(capsys, recipe(tmp_path, steps=40), *words)
    assert said.code == 1
    assert "flava: " in said.err


def test_local_runs_its_processes_to_the_end_and_shows_the_log(tmp_path: Path) -> None:
    run = start(recipe(tmp_path, steps=5))
    out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, err
    assert len(lines(tmp_path / "run")) == 5
    assert "5 steps done" in err
    (entry,) = ledger.entries(tmp_path / "run")
    assert (entry.cluster, entry.tasks) == ("local", 2)
    assert re.match(r"local-\d{8}-\d{6}-\d+$", Path(entry.folder).name)
    (standing,) = states.of_runs([tmp_path / "run"])
    assert standing.job.state == "ended, 5 of 5 steps"


def test_ctrl_c_saves_and_stops_all_processes(tmp_path: Path) -> None:
    run = start(recipe(tmp_path, steps=3000), "checkpoint.every=3000")
    wait_for_step(run, tmp_path / "run", 3)
    (standing,) = states.of_runs([tmp_path / "run"])
    assert standing.job.state == "RUNNING"
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 130, err
    saved = (tmp_path / "run" / "checkpoints" / "latest").read_text().strip()
    assert f"stopped by SIGTERM after step {int(saved)}, saved" in err
    assert "[1] flava: stopped by SIGTERM" in err


def test_a_process_that_is_killed_ends_the_others_and_the_command(tmp_path: Path) -> None:
    run = start(recipe(tmp_path, steps=3000))
    wait_for_step(run, tmp_path / "run", 3)
    (controller,) = children(run.pid)
    os.kill(children(controller)[0], signal.SIGKILL)
    _, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 1, err
    assert "ended without a word; it was killed" in err


def test_a_walltime_on_this_machine_saves_starts_again_and_goes_on(tmp_path: Path) -> None:
    """submitit's own handler and controller: the signal, the requeue and the second start."""
    words = ["--time", "1", "--signal-delay", "45", "checkpoint.every=100000"]
    run = start(recipe(tmp_path, steps=100000), *words)
    deadline = time.monotonic() + DEADLINE
    run_dir = tmp_path / "run"
    while "going on from step" not in "".join(
        path.read_text() for path in run_dir.glob("logs/*/*_0_log.out")
    ):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline, "it did not start again"
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 130, err
    steps = [int(str(line["step"])) for line in lines(run_dir)]
    assert steps == list(range(1, len(steps) + 1)), "no step is missing or doubled"


def test_a_sweep_runs_one_element_after_the_other(tmp_path: Path, capsys: Capture) -> None:
    words = ["--executor", "debug", "--sweep", "seed=1,2"]
    said = submit(capsys, recipe(tmp_path, steps=2), *words)
    assert said.code == 0, said.err
    first, second = (lines(tmp_path / "run" / f"seed={seed}") for seed in (1, 2))
    assert len(first) == len(second) == 2
    assert first != second
