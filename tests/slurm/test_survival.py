"""What clusters do to a training: it goes on by itself, and learns what it would have learnt."""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path

import pytest
from training import EVERY, PATIENCE, STILL, Training

from slurm.local_cluster import Cluster

pytestmark = pytest.mark.slurm


def gone(pid: int) -> bool:
    """A zombie counts: the first process of a container may never collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def bring_the_walltime_near(run: Training) -> None:
    """Lower the job's limit so that 90 to 150 seconds are left, with a signal 240 before the end.

    The controller looks at limits every 30 seconds: then it sends the signal, whatever the start
    took, and does not find the limit passed.
    """
    hours, minutes, seconds = map(int, run.facts()["RunTime"].split(":"))
    limit = math.ceil((3600 * hours + 60 * minutes + seconds + 90) / 60)
    run.cluster.run("scontrol", "update", f"JobId={run.job}", f"TimeLimit={limit}")


def test_walltime_preemption_and_requeue_cost_no_more_than_a_checkpoint_interval(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Training(cluster, tmp_path, sharding={"strategy": "fairscale_sdp"})
    run.order(slow=(6, 300))
    run.submit("checkpoint.format=sharded", "--tasks-per-node", "1", "--signal-delay", "240")
    run.wait_for_step(6, ranks=2)
    bring_the_walltime_near(run)
    run.wait_for_restart(1)
    assert run.latest() == 7
    cluster.run("scontrol", "update", f"JobId={run.job}", "TimeLimit=60")

    run.order(slow=(10, 300))
    run.wait_for_step(10, ranks=2, restarts=1)
    high = cluster.run(
        *("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive"),
        *("--output=/dev/null", "--wrap=true"),
    ).stdout.strip()
    run.wait_for_restart(2)
    assert run.latest() == 11
    run.wait_for_end(high)

    run.order(slow=(14, 300))
    run.wait_for_step(14, ranks=2, restarts=2)
    cluster.run("scontrol", "requeue", run.job)
    run.wait_for_restart(3)
    run.order()
    run.wait_for_end()
    asked, preempted, by_hand = run.redone()
    assert asked == preempted == 0, "after a signal the run saves the step it is at"
    assert by_hand <= EVERY
    run.assert_same_run()


def test_a_rank_that_hangs_and_one_that_is_killed_end_the_step_and_the_run_goes_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Training(cluster, tmp_path, sharding={"strategy": "ddp", "timeout": 12})
    run.order(slow=(6, 300))
    run.submit("--tasks-per-node", "1")
    run.wait_for_step(6, ranks=2)
    (last,) = run.processes(rank=1)
    os.kill(last, signal.SIGSTOP)
    run.order(slow=(14, 300))
    run.wait_for_restart(1)
    assert gone(last)

    run.wait_for_step(14, ranks=2, restarts=1)
    (first,) = run.processes(rank=0)
    os.kill(first, signal.SIGKILL)
    run.wait_for_restart(2)
    run.order()
    run.wait_for_end()
    hung, killed = run.redone()
    assert 1 <= hung <= EVERY and 1 <= killed <= EVERY
    run.assert_same_run()


def test_a_run_that_fails_at_the_same_place_is_requeued_once_and_then_fails(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Training(cluster, tmp_path)
    run.order(kill=(1, 6))
    run.submit("--tasks-per-node", "1")
    run.wait_for_end(state="FAILED")
    assert run.facts()["Restarts"] == "1"
    assert [attempt.steps[1] for attempt in run.attempts()] == [[0, 1, 2, 3, 4, 5, 6], [4, 5, 6]]
    assert run.latest() == 4
    said = run.flava("logs", run.run_dir, "--err")
    assert "no checkpoint since this attempt began: not requeued" in said


def test_a_run_goes_on_with_the_node_that_is_left(cluster: Cluster, tmp_path: Path) -> None:
    run = Training(cluster, tmp_path)
    run.order(slow=(6, 300))
    run.submit("--nodes", "1-2")
    run.wait_for_step(6, ranks=4)
    cluster.kill_node(cluster.node_names[1])
    run.order()
    run.wait_for_end()
    facts = run.facts()
    assert (facts["Restarts"], facts["NodeList"]) == ("1", cluster.node_names[0])
    assert [sorted(attempt.steps) for attempt in run.attempts()] == [[0, 1, 2, 3], [0, 1]]
    (again,) = run.redone()
    assert 1 <= again <= EVERY
    run.assert_same_run()


@pytest.mark.soak
def test_an_old_process_on_a_node_that_was_given_up_does_the_run_no_harm(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Training(cluster, tmp_path)
    run.order(slow=(6, 300))
    run.submit("--nodes", "1")
    run.wait_for_step(6, ranks=2)
    old, lost = run.processes(), run.facts()["NodeList"]
    run.order(held=[f"{run.job}.0"], slow=(14, 300))
    of_node = [each for each in cluster.processes() if each.node == lost]
    for process in of_node:
        if process.name in ("slurmd", "slurmstepd"):
            os.kill(process.pid, signal.SIGKILL)
    run.wait_for_step(14, ranks=2, restarts=1)
    assert run.facts()["NodeList"] != lost and not any(map(gone, old))
    (again,) = run.redone()
    assert 1 <= again <= EVERY
    latest, claim = run.latest(), (run.run_dir / "attempt").read_text()
    run.order(slow=(14, 300))
    cluster.wait_until(lambda: all(map(gone, old)), "the end of the old processes", PATIENCE)
    assert (run.latest(), (run.run_dir / "attempt").read_text()) == (latest, claim)
    assert "another process has started this run" in run.flava("logs", run.run_dir, "--err")
    assert run.facts()["Restarts"] == "1" and run.state() == "RUNNING"
    run.order()
    run.wait_for_end()
    run.assert_same_run()


def test_plain_sbatch_by_srun_and_by_torchrun_saves_when_asked_and_goes_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    runs = []
    for launcher in ("srun", "torchrun"):
        run = Training(cluster, tmp_path / launcher)
        run.order(slow=(6, 300))
        run.sbatch(
            *("--nodes=2", "--ntasks-per-node=1", "--time=60"),
            f"--export=ALL,FLAVA_LAUNCHER={launcher}",
        )
        runs.append(run)
    for run in runs:
        run.wait_for_step(6, ranks=2)
        cluster.run("scancel", "--signal=USR2", "--batch", run.job)  # as --signal=B:USR2 does
    for run in runs:
        run.wait_for_restart(1)
        assert run.latest() == 7
        run.order()
        listed = [line.split() for line in run.flava("jobs").splitlines()]
        assert [run.job, str(run.run_dir)] in [words[:2] for words in listed]
    for run in runs:
        run.wait_for_end()
        assert run.facts()["Restarts"] == "1"
        assert run.redone() == [0], "after a signal the run saves the step it is at"
        run.assert_same_run()


def test_a_second_job_takes_the_run_from_a_first_one_that_hangs(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Training(cluster, tmp_path)
    run.order(slow=(6, 300))
    alone = ("--nodes", "1", "--tasks-per-node", "1")
    first = run.submit(*alone)
    run.wait_for_step(6, ranks=1)
    refused = run.run(
        *(sys.executable, "-m", "flava_plugin", "submit", run.recipe, *STILL, *alone),
        *("--cluster", "local_cluster"),
        check=False,
    )
    assert refused.returncode == 2 and f"job {first} of this run is RUNNING" in refused.stderr
    run.order(held=[f"{first}.0"], slow=(14, 300))
    second = run.submit("--force", *alone)
    run.wait_for_step(14, ranks=1)
    latest, claim = run.latest(), (run.run_dir / "attempt").read_text()
    run.order(slow=(14, 300))
    run.wait_for_end(first, state="FAILED")
    assert run.facts(first)["Restarts"] == "0"
    assert (run.latest(), (run.run_dir / "attempt").read_text()) == (latest, claim)
    run.order()
    run.wait_for_end(second)
    assert run.facts()["Restarts"] == "0"
    run.assert_same_run()
