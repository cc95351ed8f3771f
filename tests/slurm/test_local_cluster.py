"""What jobs meet on the local cluster is what they meet on a real one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from jobs import Job

from slurm.local_cluster import Cluster, ClusterError
from slurm.local_cluster.namespaces import refusal
from slurm.local_cluster.ports import choose

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm_installed")]

MEET = f"""
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=1 {shlex.quote(sys.executable)} -S {Path(__file__).with_name("meet.py")}
"""
WHERE = 'echo "$SLURMD_NODENAME $SLURM_PROCID $SLURM_LOCALID $CUDA_VISIBLE_DEVICES"'


def places(job: Job) -> list[list[str]]:
    job.wait_for_state("COMPLETED", timeout=90)
    return sorted(line.split()[1:] for line in job.output() if line.startswith("place "))


def test_every_node_is_idle_after_the_start(cluster: Cluster) -> None:
    assert cluster.node_states() == {"127.0.0.1": "idle", "127.0.0.2": "idle"}


def test_srun_starts_tasks_on_every_node(cluster: Cluster) -> None:
    output = cluster.run("srun", "-N2", "--ntasks-per-node=2", "sh", "-c", WHERE).stdout
    assert sorted(line.split()[:2] for line in output.splitlines()) == [
        ["127.0.0.1", "0"],
        ["127.0.0.1", "1"],
        ["127.0.0.2", "2"],
        ["127.0.0.2", "3"],
    ]


@pytest.mark.parametrize(
    ("option", "seen"), [("--gpus-per-node=2", {"0,1"}), ("--gpus-per-task=1", {"0", "1"})]
)
def test_tasks_see_the_gpus_they_asked_for(cluster: Cluster, option: str, seen: set[str]) -> None:
    words = ("srun", "-N2", "--ntasks-per-node=2", option, "sh", "-c", WHERE)
    lines = cluster.run(*words).stdout.splitlines()
    for node in cluster.node_names:
        assert {line.split()[3] for line in lines if line.startswith(node)} == seen
    assert len(lines) == 4


def test_more_gpus_than_there_are_cannot_be_asked_for(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="configuration is not available"):
        cluster.run("srun", "-N1", "--gpus-per-node=3", "true")


def test_jobs_share_a_node_by_cpu_and_memory(cluster: Cluster, tmp_path: Path) -> None:
    """A job that names no memory does not take the whole node's."""
    jobs = []
    for index in range(2):
        folder = tmp_path / str(index)
        folder.mkdir()
        jobs.append(Job(cluster, folder, "sleep 60", "-w", "127.0.0.1", "--ntasks=1"))
    for job in jobs:
        job.wait_for_state("RUNNING", timeout=15)


def test_a_broken_node_sends_its_job_to_another(cluster: Cluster, tmp_path: Path) -> None:
    script = 'echo "start ${SLURM_RESTART_COUNT:-0} $SLURM_JOB_NODELIST"; srun sleep 300'
    job = Job(cluster, tmp_path, script, "-N1")
    job.wait_for_line("start 0 127.0.0.1")
    cluster.kill_node("127.0.0.1")
    assert not [each for each in cluster.processes() if each.node == "127.0.0.1"]
    job.wait_for_line("start 1 127.0.0.2", timeout=90)
    assert cluster.node_states()["127.0.0.1"] == "down*"
    cluster.restart_node("127.0.0.1")
    assert cluster.node_states()["127.0.0.1"] == "idle"


def test_a_preempted_job_gets_its_signal_and_time_to_answer(
    cluster: Cluster, tmp_path: Path
) -> None:
    task = "trap 'echo preempted; exit 0' USR2; echo ready; while :; do sleep 0.1; done"
    low = Job(cluster, tmp_path, f"srun sh -c {shlex.quote(task)}", "-N2", "--exclusive")
    low.wait_for_line("ready")
    (tmp_path / "high").mkdir()
    options = ("-N2", "--exclusive", "--partition=high")
    high = Job(cluster, tmp_path / "high", "echo ran", *options)
    high.wait_for_state("COMPLETED")
    assert "preempted" not in low.output(), "without --signal there is nothing to answer"

    (tmp_path / "signal").mkdir()
    (tmp_path / "again").mkdir()
    low = Job(
        cluster,
        tmp_path / "signal",
        f"srun sh -c {shlex.quote(task)}",
        *("-N2", "--exclusive", "--signal=USR2@60"),
    )
    low.wait_for_line("ready")
    high = Job(cluster, tmp_path / "again", "echo ran", *options)
    high.wait_for_state("COMPLETED")
    assert low.output().count("preempted") == 2


def test_a_job_requeued_by_hand_starts_again_under_its_number(
    cluster: Cluster, tmp_path: Path
) -> None:
    script = 'echo "start ${SLURM_RESTART_COUNT:-0} $SLURM_JOB_ID"; srun sleep 300'
    job = Job(cluster, tmp_path, script, "-N2")
    job.wait_for_line(f"start 0 {job.number}")
    cluster.run("scontrol", "requeue", job.number)
    job.wait_for_line(f"start 1 {job.number}")


def test_sacct_knows_how_jobs_ended(cluster: Cluster, tmp_path: Path) -> None:
    ends = {"good": "true", "bad": "exit 3", "cancelled": "sleep 300"}
    jobs = {}
    for name, script in ends.items():
        (tmp_path / name).mkdir()
        jobs[name] = Job(cluster, tmp_path / name, script)
    jobs["cancelled"].wait_for_state("RUNNING")
    cluster.run("scancel", jobs["cancelled"].number)
    for name, state in {"good": "COMPLETED", "bad": "FAILED", "cancelled": "CANCELLED"}.items():
        jobs[name].wait_for_state(state)
        words = ("sacct", "-o", "JobID,State", "--parsable2", "-j", jobs[name].number)
        assert cluster.run(*words).stdout == f"JobID|State\n{jobs[name].number}|{state}\n"
    assert cluster.run("sacct", "-n", "-j", "1").stdout == ""
    with pytest.raises(ClusterError, match="no option '--steps'"):
        cluster.run("sacct", "--steps")


def test_a_wait_in_vain_shows_queue_job_and_logs(cluster: Cluster, tmp_path: Path) -> None:
    job = Job(cluster, tmp_path, "echo 'the last word'; sleep 300")
    job.wait_for_line("the last word")
    with pytest.raises(TimeoutError) as caught:
        job.wait_for_line("never", timeout=0.5)
    text = str(caught.value)
    assert f"'never' of job {job.number}" in text
    for part in (f"JobId={job.number}", "squeue", "the last word", "slurmctld.log", "sinfo -N"):
        assert part in text, part


def test_a_command_that_hangs_is_ended(cluster: Cluster) -> None:
    with pytest.raises(TimeoutError, match=r"srun sleep 300: not done after 2 s"):
        cluster.run("srun", "sleep", "300", timeout=2)


def test_eight_nodes_of_eight_tasks_meet(place: Path, tmp_path: Path) -> None:
    with Cluster(place, nodes=8, cpus=8) as cluster:
        port = f"--export=ALL,MASTER_PORT={choose(1)}"
        found = places(Job(cluster, tmp_path, MEET, "-N8", "--ntasks-per-node=8", port))
        ranks = {int(rank): (node, int(local)) for rank, node, local, *_ in found}
        assert ranks == {
            8 * node + local: (cluster.node_names[node], local)
            for node in range(8)
            for local in range(8)
        }
        assert {(address, met) for *_, address, met in found} == {("127.0.0.1", "64")}


@pytest.mark.slurm_isolated
def test_isolated_nodes_have_a_hostname_and_meet_by_name(place: Path, tmp_path: Path) -> None:
    if reason := refusal():
        pytest.skip(reason)
    with Cluster(place, nodes=3, isolated=True) as cluster:
        job = Job(
            cluster, tmp_path, MEET, "-N3", "--ntasks-per-node=2", "--export=ALL,MASTER_PORT=29500"
        )
        assert places(job) == [
            [str(rank), f"node{rank // 2}", str(rank % 2), f"node{rank // 2}", "node0", "6"]
            for rank in range(6)
        ]
        own = "getent hosts $SLURMD_NODENAME | cut -d' ' -f1"
        addresses = cluster.run("srun", "-N3", "sh", "-c", own).stdout.split()
        assert len(set(addresses)) == 3 and "127.0.0.1" not in addresses
        cluster.kill_node("node1")
        cluster.restart_node("node1")
        assert cluster.run("srun", "-w", "node1", "hostname").stdout == "node1\n"
    assert not cluster.processes()
