"""The fixtures of the launcher's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch.fake_slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Fake clients first on the PATH, and no variables of a job around this one."""
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:/usr/bin:/bin")
    for name in ("SLURM_JOB_ID", "SLURM_CONF", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    return fake


@pytest.fixture
def numbered(slurm: FakeSlurm) -> FakeSlurm:
    """An sbatch that gives the ids 1, 2 and so on, and keeps every script."""
    folder = slurm.folder
    (slurm.bin / "sbatch").write_text(
        f"#!/bin/sh\nn=$(($(cat {folder}/count 2>/dev/null || echo 0) + 1))\n"
        f"echo $n > {folder}/count\n"
        f'if [ "$n" = "$(cat {folder}/refuses 2>/dev/null)" ]; then echo no more >&2; exit 1; fi\n'
        f'for last; do :; done; cp "$last" {folder}/script_$n\n'
        "echo Submitted batch job $n\n"
    )
    return slurm
