"""``slurm/flava.sbatch``, run by bash with made-up srun, scontrol, scancel and flava."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.recipes.tiny_run import write_recipe

SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "flava.sbatch"


class Batch:
    """The script and the commands it finds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run_dir = folder, folder / "run"
        self.state, self.restarts = "RUNNING", 0
        self.environment = {
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_NTASKS_PER_NODE": "4",
        }
        self.command("flava", f"echo 10; echo '{self.run_dir}'")
        self.command("scancel", f'echo "scancel $*" >> {folder}/asked; touch {folder}/signalled')
        self.step("exit 0")

    def command(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def step(self, text: str) -> None:
        """What srun does; ``save N`` writes a checkpoint."""
        save = f"save() {{ mkdir -p {self.run_dir}/checkpoints/$1; echo $1 > {self.run_dir}/"
        record = f'echo "srun $*" >> {self.folder}/asked; env > {self.folder}/environment'
        self.command("srun", f"{save}checkpoints/latest; }}\n{record}\n{text}")

    def start(self, *words: str) -> subprocess.Popen[str]:
        self.command(
            "scontrol",
            f'[ "$2" = hostnames ] && echo n1 && echo n2 && exit\n'
            f'echo "scontrol $*" >> {self.folder}/asked\n'
            f'[ "$1" = show ] && echo "JobId=77 JobState={self.state} Restarts={self.restarts} x"\n'
            f"exit 0",
        )
        environment = {**self.environment, "PATH": f"{self.folder}:{os.environ['PATH']}"}
        if self.restarts:
            environment["SLURM_RESTART_COUNT"] = str(self.restarts)
        return subprocess.Popen(
            ["bash", str(SCRIPT), *(words or ("pretrain/shapes", "seed=1"))],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        said = process.communicate(timeout=60)[1]
        return process.returncode, said

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.is_file() else []

    @property
    def requeued(self) -> bool:
        return "scontrol requeue 77" in self.asked


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


def test_a_run_that_another_job_has_taken_is_left_to_it(batch: Batch) -> None:
    for owner, requeued in (("job777-node-1-a", False), ("job77-node-1-a", True)):
        batch.step(f"save 5; save {owner}; echo {owner} > {batch.run_dir}/attempt; exit 1")
        code, said = batch.run()
        assert code == 1 and batch.requeued == requeued
        assert ("another job has taken the run" in said) != requeued


def test_a_run_folder_of_any_name_is_read_from_the_recipe(batch: Batch) -> None:
    run = f'{batch.folder}/it\'s a "run" #1: é {"long " * 30}'
    recipe = write_recipe(batch.folder, run_dir=run, steps=10)
    batch.command("flava", f'exec {sys.executable} -m flava_plugin "$@"')
    batch.step("exit 0")
    batch.run(str(recipe))
    (update,) = [line for line in batch.asked if line.startswith("scontrol update")]
    assert update == f"scontrol update JobId=77 Comment=flava:{run}"


def test_a_run_that_is_done_ends_the_job(batch: Batch) -> None:
    batch.step("save 00000010; exit 0")
    assert batch.run()[0] == 0
    assert not batch.requeued
    (step,) = [line for line in batch.asked if line.startswith("srun")]
    assert step.startswith("srun --kill-on-bad-exit=1 bash -c")
    assert step.endswith("flava train pretrain/shapes seed=1")
    assert f"scontrol update JobId=77 Comment=flava:{batch.run_dir}" in batch.asked


def test_a_run_that_is_done_is_no_failure_whatever_became_of_its_processes(batch: Batch) -> None:
    batch.step("save 00000010; exit 134")
    code, said = batch.run()
    assert (code, batch.requeued) == (0, False)
    assert "finished, though a process ended with code 134" in said


def test_processes_get_a_meeting_point_of_this_attempt(batch: Batch) -> None:
    ports = set()
    for batch.restarts in (0, 1):
        batch.run()
        seen = (batch.folder / "environment").read_text().splitlines()
        assert "MASTER_ADDR=n1" in seen
        ports |= {line for line in seen if line.startswith("MASTER_PORT=")}
    assert len(ports) == 2


def test_torchrun_starts_the_processes_of_each_node(batch: Batch) -> None:
    batch.environment["FLAVA_LAUNCHER"] = "torchrun"
    batch.run()
    (step,) = [line for line in batch.asked if line.startswith("srun")]
    assert "--ntasks=2 --ntasks-per-node=1 --cpus-per-task=4 " in step
    assert "torchrun --nnodes=2 --nproc-per-node=4 --rdzv-id=77-0 --rdzv-backend=c10d" in step
    assert step.endswith("-m flava_plugin train pretrain/shapes seed=1")


def test_a_failure_after_a_new_checkpoint_is_requeued(batch: Batch) -> None:
    batch.step("save 00000004; exit 137")
    code, said = batch.run()
    assert (code, batch.requeued) == (137, True)
    assert "after a new checkpoint: requeued" in said


@pytest.mark.parametrize("code", [1, 2, 137])
def test_a_failure_without_progress_ends_the_job(batch: Batch, code: int) -> None:
    batch.step(f"exit {code}")
    assert batch.run()[0] == code
    assert not batch.requeued


def test_restarts_are_bounded(batch: Batch) -> None:
    batch.environment["FLAVA_REQUEUES"] = "2"
    for batch.restarts in (1, 2):
        (batch.folder / "asked").unlink(missing_ok=True)
        batch.step(f"save 0000000{batch.restarts}; exit 1")
        assert batch.run()[0] == 1
        assert batch.requeued == (batch.restarts < 2)


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PENDING", "TIMEOUT"])
def test_what_is_over_or_queued_already_is_left_alone(batch: Batch, state: str) -> None:
    batch.state = state
    batch.step("save 00000004; exit 143")
    assert batch.run()[0] == 143
    assert not batch.requeued


def test_a_later_attempt_is_left_alone(batch: Batch) -> None:
    later = f"sed -i s/Restarts=0/Restarts=1/ {batch.folder}/scontrol"
    batch.step(f"save 00000005; {later}; exit 1")
    code, said = batch.run()
    assert (code, batch.requeued) == (1, False)
    assert "a later attempt of this job is running" in said


def test_the_walltimes_signal_is_passed_on_and_the_job_requeued(batch: Batch) -> None:
    batch.step(
        f"touch {batch.folder}/started\n"
        f"for i in $(seq 600); do [ -e {batch.folder}/signalled ] && break; sleep 0.05; done\n"
        "sleep 0.2; save 00000004; exit 0"
    )
    process = batch.start()
    deadline = time.monotonic() + 30
    while not (batch.folder / "started").exists():
        assert time.monotonic() < deadline, "the step never started"
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR2)
    said = process.communicate(timeout=60)[1]
    assert "scancel --signal=USR2 77" in batch.asked
    assert batch.requeued, said
    assert "asked to save" in said


def test_a_run_that_was_asked_to_save_once_too_often_has_failed(batch: Batch) -> None:
    batch.environment["FLAVA_REQUEUES"] = "0"
    batch.step("save 00000004; exit 0")
    assert batch.run()[0] == 1
    assert not batch.requeued


def test_an_element_of_an_array_requeues_itself(batch: Batch) -> None:
    batch.environment |= {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}
    batch.step("save 00000004; exit 1")
    batch.run()
    assert "scontrol requeue 70_3" in batch.asked


def test_bad_input_is_refused_before_srun(batch: Batch) -> None:
    batch.environment["FLAVA_LAUNCHER"] = "mpirun"
    assert batch.run()[0] == 2
    batch.environment.pop("FLAVA_LAUNCHER")
    batch.command("flava", "echo 'steps: bad' >&2; exit 2")
    code, said = batch.run()
    assert code == 2
    assert "the recipe is refused" in said
    bare = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert bare.returncode == 2
    assert "usage: sbatch" in bare.stderr
    assert not any(line.startswith("srun") for line in batch.asked)
