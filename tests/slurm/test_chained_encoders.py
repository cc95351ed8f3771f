"""The paper's way by one command: an encoder of each modality alone, then both in a joint run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import OVER, PATIENCE

from flava_plugin.train import checkpoint
from slurm.local_cluster import Cluster

pytestmark = pytest.mark.slurm

STILL = ("steps=1", "optim.lr=1e-30", "optim.warmup_steps=0", "optim.weight_decay=0")
"""A step that moves nothing, so that a checkpoint shows what the joint run began with."""

STARTS = {
    "backbone.image_encoder.": "mim",
    "heads.mim.": "mim",
    "backbone.text_encoder.": "mlm",
    "heads.mlm.": "mlm",
}
"""Which training each part of the joint run comes from."""


def test_the_built_in_recipes_make_one_chain(cluster: Cluster, tmp_path: Path) -> None:
    environment = {**os.environ, **cluster.environment(), "OMP_NUM_THREADS": "1"}
    one = ("--cluster", "local_cluster", "--nodes", "1", "--tasks-per-node", "1")
    words = ["pretrain/mim_shapes", "steps=3", *one]
    words += ["--then", "pretrain/mlm_shapes", "init=null", "steps=3"]
    words += ["--then", "pretrain/shapes_initialised", *STILL]
    words += ["--then", "--eval", "--tasks", "masked", "--no-report"]
    said = subprocess.run(
        [sys.executable, "-m", "flava_plugin", "submit", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    jobs = re.findall(r"^submitted (\d+);", said.stderr, re.M)
    assert len(jobs) == 4

    def states() -> list[str]:
        told = [cluster.run("scontrol", "show", "job", "-o", job).stdout for job in jobs]
        return [re.findall(r"JobState=(\S+)", text)[0] for text in told]

    cluster.wait_until(lambda: states()[-1] in OVER, f"the end of job {jobs[-1]}", PATIENCE)
    assert states() == ["COMPLETED"] * 4, cluster.report()

    runs = tmp_path / "runs"
    alone = {name: checkpoint.find(runs / f"{name}_shapes").model() for name in ("mim", "mlm")}
    joint = checkpoint.find(runs / "shapes_initialised").model()
    for prefix, source in STARTS.items():
        own = {name: value for name, value in joint.items() if name.startswith(prefix)}
        assert own
        for name, value in own.items():
            torch.testing.assert_close(value, alone[source][name], rtol=0, atol=1e-7)
    results = json.loads((runs / "shapes_initialised/results.json").read_text())
    assert results["masked"].keys() >= {"mim", "mlm", "words", "patches"}
