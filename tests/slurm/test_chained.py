"""Pretraining, a sharded fine-tuning and its evaluation by one command, against one process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from training import OVER, PATIENCE, STILL

from slurm.local_cluster import Cluster
from tests.recipes.tiny_run import lines, write_recipe

pytestmark = pytest.mark.slurm

QUESTIONS = {"type": "shapes_questions", "kind": "color", "size": 160}
PICTURES = {"type": "shapes_images", "objects": 1, "size": 80}
TASKS = {
    "answers": {"type": "predictions", "objective": "answers", "label": "answer"}
    | {"metrics": ["accuracy"], "dataset": QUESTIONS},
    "scores": {"type": "class_cosine", "dataset": PICTURES},
}


def write_recipes(folder: Path) -> tuple[Path, Path]:
    """The pretraining, and the fine-tuning that takes its model from it."""
    first = write_recipe(folder, steps=6, plugins=["paced_steps"])
    data = yaml.safe_load(first.read_text())
    for key in ("model", "steps", "run_dir"):
        del data[key]
    for key in ("tokenizer", "image", "text"):
        del data["data"][key]
    head = {"type": "classifier", "reads": "fused", "num_classes": None}
    loss = {"type": "class_ce", "target": "answer"}
    source = {"modality": "pair", "share": 1, "dataset": {**QUESTIONS, "size": 64}}
    data["objectives"] = {"answers": {"modality": "pair", "head": head, "loss": loss}}
    data["data"] |= {"sources": {"train": source}, "matching": {"negatives": 0}}
    data |= {"steps": 8, "run_dir": str(folder / "tuned"), "evaluate": {"tasks": TASKS}}
    data["init"] = {"run": str(folder / "run")}
    second = folder / "tuning.yaml"
    second.write_text(yaml.safe_dump(data, sort_keys=False))
    return first, second


def flava(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flava_plugin", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, timeout=PATIENCE
    )


def state(cluster: Cluster, job: str) -> str:
    said = cluster.run("scontrol", "show", "job", "-o", job, check=False).stdout
    found = re.search(r"JobState=(\S+)", said)
    return found[1] if found else ""


def farthest(run_dir: Path, other: Path) -> float:
    """The largest difference of a loss at any step."""
    mine, theirs = lines(run_dir), lines(other)
    assert [row["step"] for row in mine] == [row["step"] for row in theirs] != []
    fixed = {"step", "kind", "source", "grad_norm"}
    return max(
        abs(float(str(row[name])) - float(str(value)))
        for row, their in zip(mine, theirs, strict=True)
        for name, value in their.items()
        if name not in fixed
    )


def test_three_jobs_by_one_command_end_where_one_process_does(
    cluster: Cluster, tmp_path: Path
) -> None:
    plugin = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | plugin
    first, second = write_recipes(tmp_path / "one")
    flava(clean, "train", first, *STILL)
    flava(clean, "train", second, *STILL)
    flava(clean, "eval", tmp_path / "one/tuned", "--no-report")

    first, second = write_recipes(tmp_path / "four")
    on_cluster = {**clean, **cluster.environment()}
    on_cluster["PYTHONPATH"] = plugin["PYTHONPATH"]
    sharded = [*STILL, "sharding.strategy=fairscale_sdp", "checkpoint.format=sharded"]
    tail = ["--then", second, *sharded, "--then", "--eval", "--no-report"]
    said = flava(on_cluster, "submit", first, *sharded, "--cluster", "local_cluster", *tail)
    last = said.stdout.strip()
    jobs = re.findall(r"^submitted (\d+);", said.stderr, re.M)
    assert len(jobs) == 3 and last == jobs[-1]
    cluster.wait_until(lambda: state(cluster, last) in OVER, f"the end of job {last}", PATIENCE)
    assert [state(cluster, job) for job in jobs] == ["COMPLETED"] * 3, cluster.report()

    differences = {
        name: farthest(tmp_path / "four" / name, tmp_path / "one" / name)
        for name in ("run", "tuned")
    }
    one, four = (
        json.loads((tmp_path / place / "tuned/results.json").read_text())
        for place in ("one", "four")
    )
    assert one["answers"] == four["answers"], "the same answers"
    differences["scores"] = max(abs(four["scores"][k] - v) for k, v in one["scores"].items())
    print("largest differences:", differences)
    assert max(differences.values()) <= 1e-5, differences
    log = (tmp_path / "four/tuned/logs" / last / f"{last}_3_log.out").read_text()
    assert "global_rank=3(4)" in log, "four processes measured"


def test_a_chain_whose_first_job_fails_leaves_nothing_in_the_queue(
    cluster: Cluster, tmp_path: Path
) -> None:
    first, second = write_recipes(tmp_path)
    environment = {**os.environ, **cluster.environment()}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    words = ["--cluster", "local_cluster", "--setup", "exit 7", "--then", second]
    said = flava(environment, "submit", first, "sharding.strategy=ddp", *words,
                 "sharding.strategy=ddp", "--then", "--eval")  # fmt: skip
    jobs = re.findall(r"^submitted (\d+);", said.stderr, re.M)
    cluster.wait_until(
        lambda: all(state(cluster, job) in OVER for job in jobs), "all jobs are gone", 120
    )
    assert [state(cluster, job) for job in jobs] == ["FAILED", "CANCELLED", "CANCELLED"]
