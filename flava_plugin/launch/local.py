"""A job on this machine without SLURM: starts its processes, shows the log, stops them together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from flava_plugin.launch import executors
from flava_plugin.launch.cluster import Profile
from flava_plugin.launch.follow import Tail
from flava_plugin.launch.job import EvaluationJob, TrainingJob, exit_file

LONGEST = 60 * 24 * 365
"""Minutes of a job whose profile has no time."""

GRACE = 20.0
"""Seconds that the other processes have to end by themselves after one has failed."""


def run_local(
    task: TrainingJob | EvaluationJob,
    profile: Profile,
    folder: Path,
    started: Callable[[str], None],
) -> int:
    """Run a job to its end; its log goes to stderr.

    The first Ctrl-C or SIGTERM has the processes save after the step they are in and end; the
    second one ends them at once.

    Args:
        task: What each process runs.
        profile: The profile, of one node.
        folder: Submitit's folder, with ``%j``.
        started: Takes the job's id.

    Returns:
        The exit code: 130 after Ctrl-C, 143 after SIGTERM, else the largest of
        its processes, 1 for one that was killed.
    """
    with _signals() as asked:
        job, ended = executors.start_here(task, profile, folder, longest_minutes=LONGEST)
        started(job)
        place = Path(str(folder.absolute()).replace("%j", job))
        names = [(rank, kind) for rank in range(profile.tasks) for kind in ("out", "err")]
        tail = Tail(
            [place / f"{job}_{rank}_log.{kind}" for rank, kind in names],
            sys.stderr.write,
            [f"[{rank}] " if rank else "" for rank, _ in names],
        )
        handled, failed_at = 0, 0.0
        while not ended():
            tail.show()
            if len(asked) > handled:
                handled = len(asked)
                _stop(int(job), at_once=handled > 1)
            codes = _codes(place, job, profile.tasks)
            if not any(code not in (None, 0, executors.RESTARTS) for code in codes):
                failed_at = 0.0
            elif not failed_at:  # the others may wait for it in a collective
                failed_at = time.monotonic()
            if failed_at and time.monotonic() - failed_at > GRACE:
                _stop(int(job), at_once=True)
            time.sleep(0.1)
        tail.show(to_the_end=True)
    ends = _codes(place, job, profile.tasks)
    for rank, code in enumerate(ends):
        if code is None:
            sys.stderr.write(f"flava: process {rank} ended without a word; it was killed\n")
    worst = max(1 if code is None else code for code in ends)
    return 128 + asked[0] if asked and worst else worst


def is_running(folder: Path, job: str, tasks: int) -> bool:
    """Whether a job of this machine still runs.

    Args:
        folder: Where submitit keeps the job's files.
        job: Its id, the process id of submitit's controller.
        tasks: Its processes.

    Returns:
        Whether a process has not left its exit code, and the controller is there.
    """
    if None not in _codes(folder, job, tasks) or not job.isdigit():
        return False
    try:
        os.kill(int(job), 0)
    except (ProcessLookupError, PermissionError):  # the latter: another user's process by now
        return False
    return True


def _codes(folder: Path, job: str, tasks: int) -> list[int | None]:
    found: list[int | None] = []
    for rank in range(tasks):
        try:
            found.append(int(exit_file(folder, job, rank).read_text("utf-8")))
        except (OSError, ValueError):
            found.append(None)
    return found


def _stop(controller: int, *, at_once: bool) -> None:
    """Have the processes save and end, or end them; submitit's controller ends after them."""
    if not at_once:
        sys.stderr.write("flava: stopping after this step; once more to stop at once\n")
        with suppress(ProcessLookupError):
            os.kill(controller, signal.SIGTERM)  # which passes it on
        return
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False
    )
    pairs = (line.split() for line in listed.stdout.splitlines())
    for pid in [int(pair[0]) for pair in pairs if len(pair) == 2 and int(pair[1]) == controller]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the numbers of SIGINT and SIGTERM instead of ending by them."""
    asked: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        asked.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
