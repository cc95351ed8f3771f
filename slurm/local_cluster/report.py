"""What a cluster looks like when something was waited for in vain."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

LINES = 30
MOST_LOGS = 16
QUESTIONS = (
    ("sinfo", "-N", "-l"),
    ("sinfo", "-R"),
    ("squeue", "-t", "all", "-o", "%i %j %P %T %M %r %N"),
    ("scontrol", "show", "job"),
)


def describe(folder: Path, ask: Callable[..., str]) -> str:
    """Collect nodes, queue, jobs, their output and the daemons' logs.

    Args:
        folder: The cluster's.
        ask: Runs a client command, given as words, and returns what it wrote or why it failed.

    Returns:
        A text of many lines.
    """
    parts, jobs = [], ""
    for question in QUESTIONS:
        answer = ask(*question)
        parts.append(f"$ {' '.join(question)}\n{answer.rstrip()}")
        jobs = answer
    for path in [*outputs(jobs), *sorted((folder / "log").glob("*.log"))]:
        parts.append(f"==> {path}\n{tail(path)}")
    return "\n\n".join(parts)


def outputs(jobs: str) -> list[Path]:
    """List the files that jobs write.

    Args:
        jobs: As ``scontrol show job`` writes them.

    Returns:
        Standard output and error of each job, and what lies beside them under the job's number
        (a log of each rank, say); the last of many.
    """
    found: dict[Path, None] = {}
    for block in re.split(r"\n\s*\n", jobs):
        number = re.search(r"JobId=(\d+)", block)
        for name in re.findall(r"^\s*Std(?:Out|Err)=(/.+)$", block, re.M):
            path = Path(name)
            found[path] = None
            if number and path.parent.is_dir():
                beside = path.parent.glob(f"*{number[1]}*")
                found.update((other, None) for other in sorted(beside) if other.suffix != ".pkl")
    return [path for path in found if path.is_file()][-MOST_LOGS:]


def tail(path: Path) -> str:
    """Read the last lines of a file.

    Args:
        path: The file.

    Returns:
        Its last lines, or why it cannot be read.
    """
    try:
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-LINES:])
    except OSError as error:
        return f"({error})"
