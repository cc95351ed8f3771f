"""One cluster: start, stop, run commands, break and mend nodes."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

from . import daemons, ports, preflight, report
from .processes import Process, end, find
from .programs import search_path
from .running import ClusterError, checked, run
from .settings import Settings

# Variables that an outer job or the user's habits set; they would change what commands do here.
OTHERS = re.compile(r"^(SLURMD?|SBATCH|SRUN|SALLOC|SQUEUE|SINFO|SCANCEL|SACCT|SCONTROL)_")


class Cluster:
    """A SLURM cluster on this machine; as a context it starts and stops.

    Args:
        folder: A new or empty one, or that of an earlier cluster; its path at most 57 characters.
        nodes: Number of nodes.
        cpus: Of each node.
        gpus: Of each node, without hardware behind them.
        memory_mb: Of each node, in MiB.
        port: Of the controller, the nodes' after it; 0 takes free ones.
        isolated: Give every node a hostname and an address of its own (root).

    Raises:
        ValueError: A setting cannot be used; all of them at once.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        nodes: int = 2,
        cpus: int = 4,
        gpus: int = 0,
        memory_mb: int = 4000,
        port: int = 0,
        isolated: bool = False,
    ) -> None:
        place = Path(folder).resolve()
        self.settings = Settings(place, nodes, cpus, gpus, memory_mb, port, isolated)

    @classmethod
    def started_in(cls, folder: str | os.PathLike[str]) -> Cluster:
        """Take up a cluster that another process started.

        Args:
            folder: As given to ``start``.

        Returns:
            The cluster, running or not.

        Raises:
            ValueError: There is none, or it is another user's.
        """
        cluster = cls(folder)
        cluster.settings = Settings.load(cluster.folder)
        return cluster

    def __enter__(self) -> Cluster:
        """Start."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop; the folder stays, for its logs."""
        self.stop()

    @property
    def folder(self) -> Path:
        """Where everything of the cluster lies."""
        return self.settings.folder

    @property
    def node_names(self) -> list[str]:
        """Names of the nodes, as SLURM knows them and as they resolve."""
        return self.settings.names

    def start(self, timeout: float = 60.0) -> None:
        """Start the daemons and wait until every node is idle.

        Args:
            timeout: Seconds until every node has to be idle.

        Raises:
            ValueError: This folder, user or machine cannot have this cluster; nothing was started.
            ClusterError: Daemons are missing or one failed; all that were started are stopped.
            TimeoutError: Nodes did not become idle in time; all are stopped.
        """
        preflight.refuse(self.settings)
        port = self.settings.port or ports.choose(1 + self.settings.nodes)
        self.settings = replace(self.settings, port=port)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            daemons.prepare(self.settings)
            daemons.start(self.settings, self.environment())
            self.wait_idle(timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self, remove: bool = False) -> None:
        """End every job and every process of the cluster, also of half a one.

        Args:
            remove: Remove what the cluster wrote, and the folder if nothing else is in it.

        Raises:
            ClusterError: A process could not be ended.
        """
        if left := end(self.processes):
            shown = ", ".join(f"{process.name or 'a job'} {process.pid}" for process in left)
            raise ClusterError(f"could not be ended: {shown}")
        if remove:
            daemons.clear(self.folder)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def processes(self) -> list[Process]:
        """List the living processes of the daemons and of all jobs.

        Returns:
            Them; empty when the cluster is stopped.
        """
        return find(self.folder)

    def environment(self) -> dict[str, str]:
        """Give the variables under which commands reach this cluster.

        Returns:
            This process's variables, with SLURM_CONF and PATH, without those of other clusters.
        """
        own = {name: value for name, value in os.environ.items() if not OTHERS.match(name)}
        path = f"{self.folder}/bin:{search_path()}"
        return {**own, "SLURM_CONF": str(self.settings.slurm_conf), "PATH": path}

    def export_line(self) -> str:
        """Give the line that a shell evaluates to reach this cluster.

        Returns:
            An export command.
        """
        conf, folder = shlex.quote(str(self.settings.slurm_conf)), f"{self.folder}/bin"
        return f"export SLURM_CONF={conf} PATH={shlex.quote(folder)}:$PATH"

    def run(
        self,
        *command: str,
        timeout: float = 60.0,
        check: bool = True,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedProcess[str]:
        """Run a command that talks to this cluster; with isolated nodes beside its controller.

        Args:
            *command: Its words.
            timeout: Seconds, after which it is killed.
            check: Whether an exit status other than 0 is an error.
            cwd: Where it runs; None is here.
            env: Variables to add.

        Returns:
            Its exit status and what it wrote.

        Raises:
            TimeoutError: It took too long; with what it wrote and the state of the cluster.
            ClusterError: Its exit status is not 0, and check is set.
        """
        enter = [f"{self.folder}/bin/enter"] if self.settings.isolated else []
        variables = {**self.environment(), **(env or {})}
        try:
            runner = checked if check else run
            return runner([*enter, *command], timeout=timeout, env=variables, cwd=cwd)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.report()}") from None

    def wait_until(
        self, condition: Callable[[], object], waiting_for: str, timeout: float = 60.0
    ) -> None:
        """Wait until something holds.

        Args:
            condition: Is called again and again; anything true ends the wait.
            waiting_for: What it is, for the error.
            timeout: Seconds.

        Raises:
            TimeoutError: It did not hold in time; with the state of the cluster.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"waited {timeout:g} s in vain for {waiting_for}\n{self.report()}"
                )
            time.sleep(0.2)

    def node_states(self) -> dict[str, str]:
        """Ask for the state of every node.

        Returns:
            State by node, as sinfo words it; empty where the controller does not answer.
        """
        words = ("sinfo", "-h", "-N", "-p", "debug", "-o", "%N %T")
        answer = self.run(*words, timeout=15, check=False).stdout
        pairs = (line.split() for line in answer.splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def wait_idle(self, timeout: float = 60.0) -> None:
        """Wait until every node is up and without work.

        Args:
            timeout: Seconds.

        Raises:
            TimeoutError: With the state of the cluster.
        """
        idle = dict.fromkeys(self.node_names, "idle")
        self.wait_until(lambda: self.node_states() == idle, "idle nodes", timeout)

    def cancel_jobs(self) -> None:
        """End every job, without the grace in which its tasks could still answer a signal."""
        jobs = self.run("squeue", "-h", "-o", "%A", check=False).stdout.split()
        if jobs:
            self.run("scancel", "--signal=KILL", "--full", *jobs, check=False)
            self.run("scancel", *jobs, check=False)

    def kill_node(self, name: str) -> None:
        """Break a node as a power cut would: its daemon, its steps and their processes, with -9.

        All of them, the daemon first: were a step's slurmstepd to live on, it would report its dead
        tasks and the job would count as failed instead of being requeued.

        Args:
            name: Of the node.

        Raises:
            ValueError: There is no such node.
            ClusterError: A process could not be ended.
        """
        self._require_node(name)
        if left := end(lambda: [each for each in self.processes() if each.node == name]):
            raise ClusterError(f"{name}: could not be ended: {left}")

    def restart_node(self, name: str, timeout: float = 60.0) -> None:
        """Start the daemon of a broken node again and wait until it is back.

        Wait until the node counts as down (about 30 seconds) if its jobs are to be requeued: a node
        that comes back sooner is not missed, and a job that ran on it beside others, with its batch
        script elsewhere, goes on waiting for tasks that are gone.

        Args:
            name: Of the node.
            timeout: Seconds.

        Raises:
            ValueError: There is no such node.
            TimeoutError: It did not come back; with the state of the cluster.
        """
        self._require_node(name)
        daemons.start_node(self.settings, name, self.environment())
        back = ("idle", "mixed", "allocated")
        self.wait_until(
            lambda: self.node_states().get(name) in back, f"{name} to come back", timeout
        )

    def _require_node(self, name: str) -> None:
        if name not in self.node_names:
            raise ValueError(f"no node {name}; there are {', '.join(self.node_names)}")

    def report(self) -> str:
        """Describe nodes, queue, jobs, their output and the daemons' logs.

        Returns:
            A text of many lines.
        """

        def ask(*command: str) -> str:
            enter = [f"{self.folder}/bin/enter"] if self.settings.isolated else []
            try:
                done = run([*enter, *command], timeout=10, env=self.environment())
            except (TimeoutError, ClusterError) as error:
                return str(error)
            return done.stdout + done.stderr

        return report.describe(self.folder, ask)
