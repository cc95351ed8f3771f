"""Small batch jobs for the tests, and what became of them."""

from __future__ import annotations

from pathlib import Path

from slurm.local_cluster import Cluster


class Job:
    """A batch job; what it writes is appended to one file over all its starts."""

    def __init__(self, cluster: Cluster, folder: Path, script: str, *options: str) -> None:
        self.cluster = cluster
        self.log = folder / "job.out"
        file = folder / "job.sh"
        file.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        words = ("sbatch", "--parsable", "--open-mode=append", f"--output={self.log}")
        self.number = cluster.run(*words, *options, str(file)).stdout.strip()

    def output(self) -> list[str]:
        return self.log.read_text("utf-8").splitlines() if self.log.exists() else []

    def state(self) -> str:
        words = ("squeue", "-h", "-t", "all", "-j", self.number, "-o", "%T")
        return self.cluster.run(*words).stdout.strip()

    def wait_for_line(self, line: str, timeout: float = 60.0) -> None:
        self.cluster.wait_until(
            lambda: line in self.output(), f"{line!r} of job {self.number}", timeout
        )

    def wait_for_state(self, state: str, timeout: float = 60.0) -> None:
        self.cluster.wait_until(
            lambda: self.state() == state, f"job {self.number} to be {state}", timeout
        )
