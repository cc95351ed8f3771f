"""The README's commands for a cluster, run on one."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from slurm.local_cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/recipes"))
from tiny_run import write_recipe  # noqa: E402

TASK = {"itm": {"type": "matching", "dataset": {"type": "shapes_pairs", "size": 16}}}


@pytest.mark.slurm
def test_every_command_works_in_turn(cluster: Cluster, tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text("utf-8").split("## On a SLURM cluster")[1]
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section.split("\n## ")[0], re.M | re.S)
    profile = yaml.safe_load((ROOT / "slurm/clusters/local_cluster.yaml").read_text("utf-8"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile | {"signal_delay_s": 20}))
    tiny = write_recipe(tmp_path, steps=3, evaluate={"tasks": TASK})
    block = block.replace("pretrain/shapes", str(tiny))
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, cluster.environment()["PATH"]])
    bash = shutil.which("bash")
    assert bash is not None
    done = cluster.run(
        bash, "-euo", "pipefail", "-c", block, cwd=tmp_path, env={"PATH": path}, timeout=240
    )
    assert "#SBATCH" in done.stdout, "the dry run shows the batch script"
    cluster.wait_until(
        lambda: all(
            (tmp_path / "runs" / name).is_file()
            for name in ("s/results.json", *(f"lr/optim.lr={lr}/summary.json" for lr in LRS))
        ),
        "the runs and the evaluation are done",
        timeout=240,
    )


LRS = ("1e-3", "3e-3")
