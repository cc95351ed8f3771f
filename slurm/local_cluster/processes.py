"""Finds the processes of one cluster by what they hold, and ends them.

Pid files are not asked: a daemon that was killed leaves its own behind, and steps have none. Each
daemon keeps its log open, and a step writes to the log of its node; a job's own processes carry
SLURM_CONF and SLURMD_NODENAME. (slurmstepd has no variables to read: its title overwrites them.)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# The sleeping processes hold the namespaces of isolated nodes.
DAEMONS = {"munged", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd", "sleep"}
# In this order: nothing new is started, nothing is reported, and namespaces go last.
ORDER = ("slurmctld", "slurmscriptd", "slurmd", "slurmstepd", "", "munged", "sleep")


class Process(NamedTuple):
    """A living process of the cluster.

    Attributes:
        pid: Its number.
        name: Of the daemon; empty for a process of a job.
        log: Name of the log it holds open; empty for a process of a job.
        node: Where it runs; empty for what belongs to no node.
    """

    pid: int
    name: str
    log: str
    node: str


def find(folder: Path) -> list[Process]:
    """List a cluster's processes.

    Args:
        folder: The cluster's.

    Returns:
        Them, in the order in which they should end; without this process itself.
    """
    found: dict[int, Process] = {}
    children: dict[int, list[int]] = {}
    for pid, parent, name in _living():
        children.setdefault(parent, []).append(pid)
        process = _daemon(pid, name, folder) or _task(pid, folder)
        if process:
            found[pid] = process
    # What a step started and stripped of its variables is below the step.
    for step in [process for process in found.values() if process.name == "slurmstepd"]:
        below = list(children.get(step.pid, ()))
        while below:
            pid = below.pop()
            found.setdefault(pid, Process(pid, "", "", step.node))
            below += children.get(pid, ())
    found.pop(os.getpid(), None)
    return sorted(found.values(), key=lambda process: (ORDER.index(process.name), process.pid))


def end(which: Callable[[], list[Process]], timeout: float = 15.0) -> list[Process]:
    """Kill processes, and those that appear meanwhile, until none is left.

    Killed and not asked: nothing of a cluster is kept, and a job's processes may ignore a signal
    that they could catch.

    Args:
        which: Lists the processes to end.
        timeout: Seconds.

    Returns:
        Those that were still there when the time was over.
    """
    deadline = time.monotonic() + timeout
    while (left := which()) and time.monotonic() < deadline:
        for process in left:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    return left


def _living() -> Iterator[tuple[int, int, str]]:
    """Give pid, parent and name of every process but zombies.

    A first process of a container may never collect what ended, so a pid alone proves nothing.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text("utf-8", "replace")
        except OSError:
            continue
        name, rest = text[text.index("(") + 1 :].rsplit(")", 1)
        state, parent = rest.split()[:2]
        if state not in "ZX":
            yield int(entry.name), int(parent), name


def _daemon(pid: int, name: str, folder: Path) -> Process | None:
    if name not in DAEMONS:
        return None
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None  # it ended meanwhile, or belongs to another user
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith(f"{folder}/log/"):
            log = Path(target).name
            node = log.removeprefix("slurmd.").removesuffix(".log")
            return Process(pid, name, log, node if log.startswith("slurmd.") else "")
    return None


def _task(pid: int, folder: Path) -> Process | None:
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    pairs = (entry.partition(b"=") for entry in content.split(b"\0"))
    variables = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    if variables.get("SLURM_CONF") == f"{folder}/etc/slurm.conf" and (
        node := variables.get("SLURMD_NODENAME")
    ):
        return Process(pid, "", "", node)
    return None
