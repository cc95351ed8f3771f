"""The batch script itself, run by bash with an srun and a scontrol that are made up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from flava_plugin.launch.batch_script import setup_lines, teardown_lines
from flava_plugin.launch.cluster import Profile

SAVE = "mkdir -p $RUN/checkpoints/{name}; echo {name} > $RUN/checkpoints/latest"


class Ended(NamedTuple):
    """How a batch script ended, and what scontrol was asked for."""

    code: int
    requeued: list[str]
    said: str


class Batch:
    """A batch script, and what the commands in it do."""

    def __init__(self, folder: Path, runs: list[Path], **changes: object) -> None:
        self.folder, self.runs = folder, runs
        profile = Profile.model_validate({"time": 60, "requeues": 2, **changes})
        lines = [*setup_lines(profile, runs), "srun job", "", *teardown_lines(profile, runs)]
        (folder / "script.sh").write_text("\n".join(lines))
        self.state, self.restarts_seen = "RUNNING", "0"
        self.environment: dict[str, str] = {"SLURM_JOB_ID": "77"}

    def command(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\nRUN={self.runs[0]}\n{text}\n")
        path.chmod(0o755)

    def start(self, step: str) -> subprocess.Popen[str]:
        self.command("srun", step)
        self.command(
            "scontrol",
            f'echo "$*" >> {self.folder}/asked\n'
            f'[ "$1" = show ] && echo "JobId=77 JobName=a b JobState={self.state} Reason=None '
            f'Restarts={self.restarts_seen} BatchFlag=1"\nexit 0',
        )
        path = f"{self.folder}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(self.folder / "script.sh")],
            env={"PATH": path, **self.environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, step: str) -> Ended:
        process = self.start(step)
        said = process.communicate(timeout=60)[1]
        asked = (self.folder / "asked").read_text().splitlines()
        return Ended(process.returncode, [a for a in asked if a.startswith("requeue")], said)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    (tmp_path / "run").mkdir()
    return Batch(tmp_path, [tmp_path / "run"])


def save(name: str) -> str:
    return SAVE.format(name=name)


def test_a_step_that_is_done_ends_the_job(batch: Batch) -> None:
    assert batch.run(save("00000010"))[:2] == (0, [])


def test_a_failure_after_a_new_checkpoint_is_requeued_and_keeps_its_code(batch: Batch) -> None:
    ended = batch.run(save("00000010") + "; exit 137")
    assert ended[:2] == (137, ["requeue 77"])
    assert "failed with code 137 after a new checkpoint: requeued" in ended.said


def test_a_failure_without_progress_is_not_requeued(batch: Batch) -> None:
    assert batch.run("exit 3")[:2] == (3, [])


def test_checkpoints_of_earlier_attempts_are_no_progress(batch: Batch) -> None:
    subprocess.run(["bash", "-c", f"RUN={batch.runs[0]}; {save('00000010')}"], check=True)
    ended = batch.run("exit 1")
    assert ended[:2] == (1, [])
    assert "no checkpoint since this attempt began" in ended.said


def test_a_checkpoint_that_replaces_one_of_its_name_is_progress(batch: Batch) -> None:
    subprocess.run(["bash", "-c", f"RUN={batch.runs[0]}; {save('00000010')}"], check=True)
    anew = "mkdir $RUN/checkpoints/new; rmdir $RUN/checkpoints/00000010"
    ended = batch.run(f"{anew}; mv $RUN/checkpoints/new $RUN/checkpoints/00000010; exit 1")
    assert ended.requeued == ["requeue 77"]


def test_the_number_of_restarts_is_bounded(batch: Batch) -> None:
    for restarts, expected in (("1", ["requeue 77"]), ("2", [])):
        batch.environment["SLURM_RESTART_COUNT"] = batch.restarts_seen = restarts
        (batch.folder / "asked").unlink(missing_ok=True)
        assert batch.run(save(f"0000002{restarts}") + "; exit 1")[:2] == (1, expected)


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "CANCELLED", "TIMEOUT", "PREEMPTED"])
def test_what_is_requeued_or_cancelled_already_is_left_alone(batch: Batch, state: str) -> None:
    batch.state = state
    assert batch.run(save("00000010") + "; exit 255")[:2] == (255, [])


def test_a_script_of_a_lost_node_leaves_the_later_attempt_alone(batch: Batch) -> None:
    batch.restarts_seen = "1"
    ended = batch.run(save("00000010") + "; exit 1")
    assert ended[:2] == (1, [])
    assert "a later attempt of this job is running" in ended.said


def test_a_run_that_another_job_has_taken_is_left_to_it(batch: Batch) -> None:
    for owner, expected in (("job77-node-1-a", ["requeue 77"]), ("job777-node-1-a", [])):
        (batch.folder / "asked").unlink(missing_ok=True)
        ended = batch.run(f"{save(owner[-1] + owner)}; echo {owner} > $RUN/attempt; exit 1")
        assert ended[:2] == (1, expected)
    assert "another job has taken the run: not requeued" in ended.said


def test_ctrl_c_is_not_requeued(batch: Batch) -> None:
    assert batch.run(save("00000010") + "; exit 130")[:2] == (130, [])


def test_a_controller_that_does_not_answer_requeues_nothing(batch: Batch) -> None:
    batch.state = ""
    assert batch.run(save("00000010") + "; exit 1")[:2] == (1, [])


def test_an_element_of_an_array_looks_at_its_own_run_and_requeues_itself(tmp_path: Path) -> None:
    runs = [tmp_path / "other", tmp_path / "it's mine"]
    batch = Batch(tmp_path, runs)
    batch.environment |= {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "1"}
    other = "mkdir -p $RUN/checkpoints/1; echo 1 > $RUN/checkpoints/latest"
    assert batch.run(f"{other}; exit 1").requeued == []
    mine = f'cd "{runs[1].parent}"; mkdir -p "it\'s mine/checkpoints/1"'
    assert batch.run(f'{mine}; echo 1 > "it\'s mine/checkpoints/latest"; exit 1').requeued == [
        "requeue 70_1"
    ]


def test_a_setup_line_that_says_set_e_does_not_cut_the_end_off(tmp_path: Path) -> None:
    batch = Batch(tmp_path, [tmp_path / "run"], setup=["set -e"])
    assert batch.run(save("00000010") + "; exit 9")[:2] == (9, ["requeue 77"])


def test_a_usr2_to_the_shell_does_not_end_it(batch: Batch) -> None:
    process = batch.start("touch $RUN/started; sleep 1; " + save("00000010") + "; exit 5")
    deadline = time.monotonic() + 30
    while not (batch.runs[0] / "started").exists():
        assert time.monotonic() < deadline, "the step never started"
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=60) == 5
    assert "requeue 77" in (batch.folder / "asked").read_text()


def test_without_requeues_there_is_nothing_after_srun() -> None:
    profile = Profile(time=60, requeues=0)
    assert teardown_lines(profile, [Path("run")]) == []
    assert not any("flava" in line for line in setup_lines(profile, [Path("run")]))
    assert teardown_lines(Profile(time=60), []) == []
