"""The cluster starts for anyone, stops without a trace and says why where it cannot."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from jobs import Job

from slurm.local_cluster import Cluster, ClusterError, missing_programs, namespaces, programs

pytestmark = pytest.mark.slurm

PACKAGE = Path(__file__).parents[2] / "slurm" / "local_cluster"
NOBODY = 65534


def shell(text: str, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, "bash", "-c", text],
        env={**os.environ, "ME": f"{sys.executable} {PACKAGE}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def gone(pid: int) -> bool:
    """A zombie counts: the first process of a container may never collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.usefixtures("slurm_installed")
def test_the_printed_line_leads_a_shell_to_the_cluster(place: Path) -> None:
    folder = place / "c"
    done = shell(f'eval "$($ME start {folder} --nodes 3)" && sinfo -h -o "%D %T" -p debug')
    try:
        assert done.stdout == "3 idle\n", done
        assert f"stop {folder}" in done.stderr
        again = shell(f"$ME start {folder}")
        assert again.returncode == 2 and "is running in" in again.stderr and not again.stdout
        status = shell(f"$ME status {folder}")
        assert status.returncode == 0
        assert status.stdout.splitlines()[:3] == [f"127.0.0.{node} idle" for node in (1, 2, 3)]
        daemons = [int(path.read_text()) for path in (folder / "run").glob("*.pid")]
        assert len(daemons) == 5 and not any(map(gone, daemons))
    finally:
        (folder / "mine.txt").write_text("not the cluster's")
        stopped = shell(f"$ME stop {folder}")
    assert stopped.returncode == 0 and all(map(gone, daemons))
    status = shell(f"$ME status {folder}")
    assert (status.returncode, status.stdout) == (1, "not running\n")
    assert shell(f"$ME stop {folder} --remove").returncode == 0
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert shell(f"$ME stop {folder}").returncode == 2


@pytest.mark.usefixtures("slurm_installed")
def test_stop_leaves_no_process_of_a_stubborn_job(place: Path, tmp_path: Path) -> None:
    """Also where the node's daemon is dead, and tasks ignore signals or hide their variables."""
    stubborn = tmp_path / "stubborn.sh"
    stubborn.write_text(
        "trap '' TERM USR2 HUP INT\n"
        f"echo $$ > {tmp_path}/$SLURM_PROCID.pid\n"
        f"env -i setsid sh -c 'echo $$ > {tmp_path}/hidden.pid; exec sleep 300' &\n"
        "while :; do sleep 300; done\n"
    )
    with Cluster(place / "c", nodes=2) as cluster:
        Job(cluster, tmp_path, f"srun sh {stubborn}", "-N2")
        files = [tmp_path / name for name in ("0.pid", "1.pid", "hidden.pid")]
        cluster.wait_until(
            lambda: all(path.exists() and path.read_text().strip() for path in files), "tasks"
        )
        pids = [int(path.read_text()) for path in files]
        steps = [each for each in cluster.processes() if each.name == "slurmstepd"]
        daemon = next(each for each in cluster.processes() if each.name == "slurmd")
        os.kill(daemon.pid, signal.SIGKILL)
        assert len(steps) == 3, "the batch script's and one on each node"
        assert not any(map(gone, pids))
    assert all(map(gone, [*pids, *(step.pid for step in steps)]))


@pytest.mark.usefixtures("slurm_installed")
def test_two_clusters_side_by_side_do_not_meet(place: Path, tmp_path: Path) -> None:
    with Cluster(place / "a", nodes=2) as one, Cluster(place / "b", nodes=1) as other:
        assert set(range(one.settings.port, one.settings.port + 3)).isdisjoint(
            range(other.settings.port, other.settings.port + 2)
        )
        job = Job(one, tmp_path, "sleep 300")
        job.wait_for_state("RUNNING")
        assert other.run("squeue", "-h").stdout == ""
        assert len(other.node_states()) == 1
        one.stop()
        assert other.run("srun", "echo", "alive").stdout == "alive\n"


@pytest.mark.usefixtures("slurm_installed")
def test_a_new_start_remembers_no_job_and_reuses_no_number(place: Path, tmp_path: Path) -> None:
    numbers = []
    for _ in range(2):
        with Cluster(place / "c", nodes=1) as cluster:
            assert cluster.run("squeue", "-h", "-t", "all").stdout == ""
            numbers.append(int(Job(cluster, tmp_path, "true").number))
    assert numbers[0] < numbers[1]


@pytest.mark.usefixtures("slurm_installed")
def test_an_ordinary_user_needs_no_root(place: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("run by an ordinary user: every other test of this folder shows it")
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    python = shutil.which("python3", path="/usr/bin:/bin")
    new_enough = "import sys; sys.exit(sys.version_info < (3, 10))"
    if not python or shell(f"cd / && {python} -c '{new_enough}'", *become).returncode:
        pytest.skip("install python3 (3.10 or later) in /usr/bin: root's may be closed to others")
    shutil.copytree(PACKAGE, place / "local_cluster")
    subprocess.run(["chmod", "-R", "a+rX", place], check=True)
    (place / "own").mkdir()
    os.chown(place / "own", NOBODY, NOBODY)
    done = shell(
        f"cd / && PATH=/usr/bin:/bin && me='{python} {place}/local_cluster' && "
        f'trap "$me stop {place}/own/c --remove" EXIT && '
        f'eval "$($me start {place}/own/c)" && timeout 30 srun -N2 id -u',
        *become,
    )
    assert (done.returncode, done.stdout) == (0, f"{NOBODY}\n{NOBODY}\n"), done
    assert not (place / "own" / "c").exists()
    done = shell(f"cd / && {python} {place}/local_cluster start {place}/own/c --isolated", *become)
    assert done.returncode == 2 and "isolated nodes need root" in done.stderr


def with_slurmd(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put another slurmd before the real one."""
    folder.mkdir()
    (folder / "slurmd").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "slurmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.usefixtures("slurm_installed")
@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("echo no such node >&2; exit 1", ClusterError, "no such node"),
        ("exit 0", TimeoutError, "in vain for idle nodes"),
    ],
)
def test_half_a_cluster_is_taken_down(
    script: str,
    error: type[Exception],
    message: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_slurmd(tmp_path / "fake", script, monkeypatch)
    cluster = Cluster(place / "c")
    with pytest.raises(error, match=message):
        cluster.start(timeout=1)
    assert "slurmctld" in "".join(path.name for path in (cluster.folder / "log").iterdir())
    assert not cluster.processes()


@pytest.mark.usefixtures("slurm_installed")
def test_a_start_that_is_interrupted_takes_down_what_it_put_up(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_slurmd(tmp_path / "fake", f"touch {tmp_path}/reached; sleep 60", monkeypatch)
    starting = subprocess.Popen([sys.executable, PACKAGE, "start", place / "c"])
    deadline = time.monotonic() + 30
    while not (tmp_path / "reached").exists():
        assert time.monotonic() < deadline and starting.poll() is None, "slurmd was not reached"
        time.sleep(0.05)
    assert Cluster.started_in(place / "c").processes()
    starting.terminate()
    assert starting.wait(timeout=30) == 128 + signal.SIGTERM
    assert not Cluster.started_in(place / "c").processes()


def long_folder(cluster_folder: Path) -> Cluster:
    return Cluster(cluster_folder / ("x" * 60))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (long_folder, "sockets lie below it, so at most 57"),
        (lambda folder: Cluster(folder / "a b"), "slurm.conf takes only letters"),
        (lambda folder: Cluster(folder, nodes=0), "nodes=0: must be from 1 to 250"),
        (lambda folder: Cluster(folder, cpus=0, gpus=-1), r"cpus=0.*\n.*gpus=-1"),
        (lambda folder: Cluster(folder, memory_mb=1), "memory_mb=1: must be from 4"),
        (lambda folder: Cluster(folder, port=80), "port=80: must be from 1024"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    build: Callable[[Path], Cluster], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(Path("/tmp/c"))


@pytest.mark.usefixtures("slurm_installed")
def test_folders_and_ports_of_others_are_refused(place: Path, tmp_path: Path) -> None:
    (place / "file").touch()
    with pytest.raises(ValueError, match="is not empty and not a cluster's"):
        Cluster(place).start()
    with pytest.raises(ValueError, match="is not a folder"):
        Cluster(place / "file").start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=rf"in use: {port}\b.*say another --port"):
            Cluster(place / "c", port=port).start()
    assert [path.name for path in place.iterdir()] == ["file"]
    with pytest.raises(ValueError, match="no cluster was started here"):
        Cluster.started_in(place)


def test_a_node_that_is_not_there_cannot_be_broken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no node node7; there are 127.0.0.1, 127.0.0.2"):
        Cluster("/tmp/c").kill_node("node7")


def without_programs(module: ModuleType, monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setattr(module, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", str(empty))


def test_missing_packages_are_named_with_the_command_that_installs_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_programs(programs, monkeypatch, tmp_path)
    with pytest.raises(ClusterError, match=r"munged, slurmctld.*apt-get install.* munge$"):
        Cluster(place / "c").start()
    assert not (place / "c").exists()
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert "iproute2" in str(namespaces.refusal())
    assert "ip, nsenter" in str(missing_programs("ip", "nsenter"))


def test_another_users_jobs_variables_do_not_reach_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SBATCH_PARTITION", "theirs")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    variables = Cluster("/tmp/c").environment()
    assert variables["SLURM_CONF"] == "/tmp/c/etc/slurm.conf"
    assert "SLURM_JOB_ID" not in variables and "SBATCH_PARTITION" not in variables
    assert shlex.split(Cluster("/tmp/c").export_line())[1] == "SLURM_CONF=/tmp/c/etc/slurm.conf"
