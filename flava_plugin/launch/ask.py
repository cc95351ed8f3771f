"""Questions to SLURM's clients; what does not answer is not known, never wrong."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE = 20
"""Seconds after which a client that does not answer counts as absent."""

ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
}
"""States of a job that writes nowhere any more; one of another state may, now or later."""

# squeue has no separator between the fields that --Format alone knows, only widths.
_FIELDS = {
    "JobArrayID": 40,
    "State": 20,
    "NumNodes": 10,
    "TimeUsed": 20,
    "RestartCnt": 10,
    "Reason": 60,
    "Comment": 2000,
}


@dataclass(frozen=True)
class Job:
    """A job as the cluster sees it.

    Attributes:
        id: Its id, ``ARRAY_INDEX`` for an element of an array.
        state: In SLURM's words, such as ``RUNNING``.
        nodes: How many nodes it has or wants.
        elapsed: Time of its latest attempt.
        restarts: How often it was requeued; empty where that is not known.
        reason: Why it waits, or ended.
        comment: Its comment.
    """

    id: str
    state: str
    nodes: str = ""
    elapsed: str = ""
    restarts: str = ""
    reason: str = ""
    comment: str = ""


@dataclass(frozen=True)
class Partition:
    """A partition as ``sinfo`` sees it.

    Attributes:
        name: Its name.
        default: Whether jobs without a partition go there.
        time: Its walltime limit in minutes; None for none.
        nodes: How many nodes it has; 0 where that is not known.
    """

    name: str
    default: bool
    time: int | None
    nodes: int


def answer(command: Sequence[str]) -> str | None:
    """Run a client.

    Args:
        command: Its words.

    Returns:
        What it printed; None where it is absent, fails or does not answer.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def queue() -> dict[str, Job] | None:
    """The user's jobs that the controller still knows, ended ones included.

    Returns:
        Jobs by id, each element of an array by itself; None where nothing answers.
    """
    fields = ",".join(f"{name}:{width}" for name, width in _FIELDS.items())
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={user()}"]
    text = answer([*command, f"--Format={fields}"])
    if text is None:
        return None
    found = {}
    for line in text.splitlines():
        values, start = [], 0
        for width in _FIELDS.values():
            values.append(line[start : start + width].strip())
            start += width
        if values[0]:
            found[values[0]] = Job(*values)
    return found


def accounts(ids: Sequence[str]) -> dict[str, Job]:
    """What accounting knows of jobs.

    Args:
        ids: Their ids.

    Returns:
        Jobs by id; empty where there is no accounting.
    """
    if not ids:
        return {}
    form = "--format=JobID%40,State%40,NNodes,Elapsed,ExitCode"
    command = ["sacct", "--noheader", "--parsable2", "--allocations", form]
    found = {}
    for line in (answer([*command, f"--jobs={','.join(ids)}"]) or "").splitlines():
        values = line.split("|")
        if len(values) >= 5 and values[0] in ids:
            name, state, nodes, elapsed, code = values[:5]
            reason = "" if code in ("", "0:0") else f"exit code {code}"
            word = state.split(" ")[0]  # "CANCELLED by 1000"
            found[name] = Job(name, word, nodes, elapsed, reason=reason)
    return found


def partitions() -> list[Partition] | None:
    """The cluster's partitions; None where nothing answers."""
    text = answer(["sinfo", "--all", "--noheader", "--format=%P|%l|%F"])  # hidden ones too
    if not text:
        return None
    found = []
    for line in text.splitlines():
        values = line.strip().split("|")
        if len(values) != 3 or not values[0]:
            continue  # a message of the site
        name, limit, counts = values
        total = counts.rpartition("/")[2]
        nodes = int(total) if total.isdecimal() else 0
        found.append(Partition(name.rstrip("*"), name.endswith("*"), _limit(limit), nodes))
    return found or None


def _limit(text: str) -> int | None:
    """Minutes of sinfo's ``infinite``, ``30:00``, ``2:00:00`` or ``1-00:00:00``."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in [*parts, days or "0"]) or len(parts) < 2:
        return None
    hours = int(parts[-3]) if len(parts) > 2 else 0
    return (int(days or 0) * 24 + hours) * 60 + int(parts[-2])


def associations() -> list[tuple[str, set[str]]] | None:
    """The user's accounts, each with its qualities of service; None where nothing answers."""
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations"]
    text = answer([*command, f"user={user()}", "format=Account,QOS"])
    if not text:
        return None
    rows = [line.split("|") for line in text.splitlines() if line.isprintable()]
    rows = [row for row in rows if len(row) == 2 and row[0]]  # not a message of the site
    return [(account, set(filter(None, names.split(",")))) for account, names in rows] or None


def user() -> str:
    """Name of the user whose jobs are asked for."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a number without a name, as in some containers; the clients take it too
        return str(os.geteuid())
