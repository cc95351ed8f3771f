"""What is too long for CI; ``make soak`` runs it and its figures go to RESULTS.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.soak
def test_every_kill_is_resumed_bit_for_bit(capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).with_name("kill_resume.py")
    with capsys.disabled():  # its lines are the record
        done = subprocess.run([sys.executable, str(script), "--kills", "20"], check=False)
    assert done.returncode == 0


@pytest.mark.soak
def test_more_data_helps_flava_and_clip(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.bench.scaling", "--seeds", "1"]
    with capsys.disabled():  # its curve is the record
        done = subprocess.run([*command, "--folder", str(tmp_path)], check=False)
    assert done.returncode == 0
