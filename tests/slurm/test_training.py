"""Trainings that ``flava submit`` put on a real SLURM learn what one process learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training import STEPS, Training, alone

from slurm.local_cluster import Cluster

pytestmark = pytest.mark.slurm


def table(text: str) -> list[dict[str, str]]:
    """Rows of ``flava jobs``; its columns begin where their headings do."""
    head, *rows = text.splitlines()
    names = head.split()
    starts = [head.index(name) for name in names]
    ends = [*starts[1:], None]
    return [
        {n: row[a:b].strip() for n, a, b in zip(names, starts, ends, strict=True)} for row in rows
    ]


def assert_same_figures(run_dir: Path) -> None:
    """The accuracy is the same number, the scores behind it are those of one process.

    The weights agree within 1e-6. The best class of each picture leads by 4e-4 in cosine at least,
    so not one answer may differ; and the scores, which tell this model from that of half the
    steps, agree within 1e-5.
    """
    found = json.loads((run_dir / "results.json").read_text())
    assert found["zero_shot"] == alone().figures["zero_shot"]
    for name, value in alone().figures["scores"].items():
        assert abs(found["scores"][name] - value) < 1e-5, (name, found, alone().figures)
    earlier = alone().earlier["scores"]
    assert all(abs(earlier[name] - found["scores"][name]) > 1e-3 for name in ("right", "all"))


def test_a_run_and_the_evaluation_chained_to_it_give_what_one_process_gives(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Training(cluster, tmp_path)
    run.order(slow=(6, 300))
    job = run.submit()
    run.wait_for_step(6, ranks=4)

    # While it trains: its state is the queue's, its evaluation waits, its logs are there.
    evaluation = run.flava(
        *("submit", run.run_dir, "--eval", "--dependency", f"afterok:{job}"),
        *("--cluster", "local_cluster"),
    ).strip()
    training, waiting = table(run.flava("jobs", run.run_dir))
    assert training["JOB"] == job and training["RUN"] == str(run.run_dir)
    assert (training["STATE"], training["NODES"], training["RESTARTS"]) == ("RUNNING", "2", "0")
    assert training["STEP"] == f"6/{STEPS}"
    assert (waiting["JOB"], waiting["STATE"]) == (evaluation, "PENDING")
    assert waiting["REASON"] == "Dependency" and waiting["RUN"].endswith("(eval)")
    assert {row["JOB"] for row in table(run.flava("jobs"))} >= {job, evaluation}
    log = run.flava("logs", run.run_dir, "--job", job, "--rank", 3)
    assert f"job_id={job}" in log and "global_rank=3(4)" in log
    run.order()
    run.wait_for_end(job)
    run.wait_for_end(evaluation)

    run.assert_same_run()
    assert run.redone() == [] and len(run.attempts()) == 1
    assert_same_figures(run.run_dir)
    assert [row["STATE"] for row in table(run.flava("jobs", run.run_dir))] == ["COMPLETED"] * 2
    said = run.flava("logs", run.run_dir, "--job", job)
    assert f"{STEPS} steps done" in said
    assert f"evaluated {run.run_dir}" in run.flava("logs", run.run_dir, "--out")


def test_a_sharded_run_of_fairscale_gives_what_one_process_gives(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Training(cluster, tmp_path, sharding={"strategy": "fairscale_sdp"})
    job = run.submit("checkpoint.format=sharded")
    evaluation = run.flava(
        *("submit", run.run_dir, "--eval", "--dependency", f"afterok:{job}"),
        *("--cluster", "local_cluster"),
    ).strip()
    run.wait_for_end(job)
    run.wait_for_end(evaluation)
    run.assert_same_run()
    newest = run.run_dir / "checkpoints" / f"{STEPS:08d}"
    assert json.loads((newest / "state.json").read_text())["parts"] == 4
    assert_same_figures(run.run_dir)


def test_eight_nodes_of_two_processes_meet_and_train(place: Path, tmp_path: Path) -> None:
    with Cluster(place, nodes=8, cpus=2) as cluster:
        run = Training(cluster, tmp_path)
        run.submit("--nodes", "8", "data.global_batch=16", "steps=3")
        run.wait_for_end()
        (attempt,) = run.attempts()
        assert attempt.steps == {rank: [0, 1, 2] for rank in range(16)}
        assert run.latest() == 3
