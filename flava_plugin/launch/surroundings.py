"""What a submission is kept apart from: other submissions, and a job that it runs in."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """Keep other submissions with the same folder waiting: each clears away what is new in it.

    Args:
        root: The folder; made.

    Yields:
        None: Once it is this one's turn.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Hide the variables of the job that this process may be in: sbatch would take them over.

    Yields:
        None: While they are hidden.
    """
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        for name in list(os.environ):
            of_a_job = name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_"))
            if of_a_job and name not in ("SLURM_CONF", "SLURM_CLUSTERS"):
                hidden[name] = os.environ.pop(name)
    try:
        yield
    finally:
        os.environ.update(hidden)
