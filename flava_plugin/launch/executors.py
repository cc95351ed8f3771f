"""The one door to submitit: batch scripts, submissions, and a process's place among the others."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE
from submitit.slurm.slurm import _make_sbatch_string

from flava_plugin.launch.cluster import Profile
from flava_plugin.launch.surroundings import alone_in, outside_of_any_job

Task = Callable[[], None]
FIRST_PORT, PORTS = 20_000, 12_000
"""Ports of meeting points: above those of services, below the ones that Linux lends from 32768."""

STRIDE = 375
"""From an attempt's port to the next one's: 32 attempts of 375 jobs in a row have their own."""

RESTARTS: int = LOCAL_REQUEUE_RETURN_CODE
"""Exit code of a process that submitit's controller starts again on this machine."""


class SubmitError(RuntimeError):
    """The cluster did not take a job; the text is what it said."""


@dataclass(frozen=True)
class Place:
    """A process among those of its job.

    Attributes:
        executor: ``slurm`` or ``local``; ``debug`` for a process by itself.
        job: The job's id, ``ARRAY_INDEX`` in an array.
        number: SLURM's own number of the job, or the controller's process id.
        rank: Number of this process.
        size: How many there are.
        local_rank: Number of this process on its machine.
        local_size: How many there are on it.
        host: Where rank 0 is.
        attempt: How often the job was started before.
        folder: Where submitit keeps the job's files; None where there is none.
    """

    executor: str = "debug"
    job: str = "0"
    number: int = 0
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: str = "127.0.0.1"
    attempt: int = 0
    folder: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What torch and the training read, torchrun's names.

        The port is another one for each attempt, so that a process that is left of an earlier
        attempt does not meet those of this one, and for each of 12 000 jobs in a row, as several
        may share a node.
        """
        port = FIRST_PORT + (self.number + self.attempt * STRIDE) % PORTS
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_size),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(port),
        }


def place() -> Place:
    """Find out where this process stands; called inside a job that submitit started."""
    here = submitit.JobEnvironment()
    on_slurm = here.cluster == "slurm"
    return Place(
        executor=here.cluster,
        job=here.job_id,
        number=int(here.raw_job_id),
        rank=here.global_rank,
        size=here.num_tasks,
        local_rank=here.local_rank,
        local_size=max(1, here.num_tasks // here.num_nodes),
        host=here.hostnames[0] if on_slurm else "127.0.0.1",
        attempt=int(os.environ.get("SLURM_RESTART_COUNT", "0")) if on_slurm else 0,
        folder=here.paths.folder,
    )


def again(task: Task) -> Any:
    """Say to submitit what a requeued job runs.

    Args:
        task: A callable that goes on by itself.

    Returns:
        A ``DelayedSubmission``.
    """
    return submitit.helpers.DelayedSubmission(task)


def parameters(
    profile: Profile,
    *,
    name: str,
    comment: str,
    dependency: str | None,
    setup: Sequence[str],
    teardown: Sequence[str],
) -> dict[str, Any]:
    """Say a profile in submitit's words.

    Args:
        profile: The profile; it has a ``time``.
        name: Name of the job.
        comment: Its comment.
        dependency: Jobs to wait for, as sbatch writes it.
        setup: Lines before srun.
        teardown: Lines after it.

    Returns:
        Parameters of submitit's SlurmExecutor.
    """
    least, most = profile.nodes
    further: dict[str, Any] = {"requeue" if profile.requeues else "no-requeue": True}
    if profile.reservation:
        further["reservation"] = profile.reservation
    tasks: dict[str, Any] = {"ntasks_per_node": profile.tasks}
    tasks["cpus_per_task"] = profile.cpus_per_task
    if least != most:
        # With tasks per node, SLURM counts the tasks when the job first starts, and a requeued
        # job then waits for as many nodes as it had. So sbatch is told of one task on each node,
        # with the cores of all; the script tells srun how many there are (see batch_script).
        further["nodes"] = f"{least}-{most}"
        tasks = {"cpus_per_task": profile.tasks * (profile.cpus_per_task or 1)}
    if dependency:  # a job whose condition can no longer come true would stay in the queue
        further["kill-on-invalid-dep"] = "yes"
    values = {
        "job_name": name,
        "time": profile.time,
        "nodes": most,
        **tasks,
        "gpus_per_node": profile.gpus_per_node or None,
        "mem": None if profile.mem_gb is None else _memory(profile.mem_gb),
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "nodelist": profile.nodelist,
        "exclusive": profile.exclusive or None,
        "comment": comment,
        "dependency": dependency,
        "signal_delay_s": profile.signal_delay_s,
        "array_parallelism": profile.array_parallelism,
        "setup": list(setup),
        "teardown": list(teardown) or None,
        "srun_args": list(profile.srun),
        "additional_parameters": further | profile.sbatch,
    }
    return {key: value for key, value in values.items() if value is not None}


def _memory(gigabytes: float) -> str:
    whole = gigabytes == int(gigabytes)
    return f"{int(gigabytes)}G" if whole else f"{int(gigabytes * 1024)}M"


def script(values: Mapping[str, Any], folder: Path, python: str | None, elements: int) -> str:
    """Write the batch script that ``submit`` would hand to sbatch, without any cluster.

    Args:
        values: What ``parameters`` gave.
        folder: Submitit's folder, with ``%j``.
        python: The profile's ``python``.
        elements: Elements of the array; 1 for a single job.

    Returns:
        The text.
    """
    command = f"{python or shlex.quote(sys.executable)} -u -m submitit.core._submit"
    command += f" {shlex.quote(str(folder.absolute()))}"
    count = elements if elements > 1 else None
    return _make_sbatch_string(command=command, folder=folder.absolute(), map_count=count, **values)


def submit(
    tasks: Sequence[Task],
    values: Mapping[str, Any],
    folder: Path,
    *,
    python: str | None,
    requeues: int,
) -> list[str]:
    """Put tasks into SLURM's queue: one job, or an array of several.

    Args:
        tasks: What each runs.
        values: What ``parameters`` gave.
        folder: Submitit's folder, with ``%j``; made.
        python: The profile's ``python``.
        requeues: How many time-outs may requeue a job.

    Returns:
        The id of each task's job, ``ARRAY_INDEX`` for several.

    Raises:
        SubmitError: sbatch refused.
    """
    root = folder.absolute().parent
    with outside_of_any_job(), alone_in(root):
        before = set(root.glob("*"))
        executor = submitit.SlurmExecutor(folder, max_num_timeout=requeues, python=python)
        executor.update_parameters(**values)
        try:
            ids = [job.job_id for job in executor.submit_array(tasks)]
        except RuntimeError as error:
            raise SubmitError(str(error).strip()) from error
        finally:  # the link to the script, and after a refusal the script and the pickled task
            for path in set(root.glob(".submission_file_*.sh")) | set(root.glob("*.pkl")):
                if path not in before:
                    path.unlink(missing_ok=True)
    return ids


def start_here(
    task: Task, profile: Profile, folder: Path, *, longest_minutes: int
) -> tuple[str, Callable[[], bool]]:
    """Start the processes of a task on this machine, without SLURM.

    The keys of the terminal do not reach submitit's controller, which would give the processes a
    second to save: whoever started it passes the wish to stop on, by SIGTERM.

    Args:
        task: What each process runs.
        profile: Its tasks, GPUs, time, environment, signal delay and number of requeues.
        folder: Submitit's folder, with ``%j``; made.
        longest_minutes: The time where the profile has none.

    Returns:
        The job's id, which is the controller's process id; and whether it has ended.
    """
    executor = submitit.LocalExecutor(folder, max_num_timeout=profile.requeues)
    executor.update_parameters(
        tasks_per_node=profile.tasks,
        gpus_per_node=profile.gpus_per_node,
        timeout_min=profile.time or longest_minutes,
        signal_delay_s=profile.signal_delay_s,
    )
    in_main = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    kept = {name: os.environ.get(name) for name in profile.environment}
    os.environ.update(profile.environment)
    try:
        job = executor.submit(task)
    finally:
        if in_main:
            signal.signal(signal.SIGINT, former)
        for name, text in kept.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text
    return job.job_id, lambda: bool(job.done())
