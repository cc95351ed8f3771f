"""A run in a folder whose name a shell, YAML and SLURM could each take for something else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from slurm.local_cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/recipes"))
from tiny_run import write_recipe  # noqa: E402

ODD = """it's a "run" #1: é, [x] ; & -y"""


@pytest.mark.slurm
def test_a_run_in_an_odd_folder_is_submitted_followed_and_done(
    cluster: Cluster, tmp_path: Path
) -> None:
    here = tmp_path / ODD
    recipe = write_recipe(here, steps=3, plugins=["of_this_folder"], run_dir="runs/a b")
    (here / "of_this_folder.py").write_text("")
    profile = {"time": 10, "signal_delay_s": 20, "environment": {"A": "x'y $HOME", "B": ""}}
    (here / "mine.yaml").write_text(yaml.safe_dump({**profile, "setup": [": 'set up'", "set -eu"]}))
    scripts = os.pathsep.join([str(Path(sys.executable).parent), cluster.environment()["PATH"]])

    def flava(*words: str) -> str:
        env = {"PATH": scripts}
        return cluster.run("flava", *words, cwd=here, env=env, timeout=240).stdout

    flava("submit", recipe.name, "--cluster", "mine.yaml", "--name", ODD)
    followed = flava("logs", "runs/a b", "--follow")
    assert "3 steps done in " in followed
    assert f": {here}/runs/a b\n" in followed
    assert "COMPLETED" in flava("jobs", "runs/a b")
