"""The fixture of the launcher's tests."""

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
