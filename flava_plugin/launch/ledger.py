"""``RUN/logs/jobs.jsonl``: a line for each job that was submitted for a run."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

MARK = "flava:"
"""In the comment of a job, before its run folder."""


@dataclass(frozen=True)
class Entry:
    """A job that was submitted.

    Attributes:
        id: Its id; ``ARRAY_INDEX`` for an element of a sweep.
        run: Absolute path of the run folder.
        work: ``train`` or ``eval``.
        folder: Where submitit keeps its files.
        command: The command line that submitted it.
        cluster: The profile, or ``local``.
        nodes: Such as ``2`` or ``1-2``.
        tasks: Processes on each node.
        steps: Steps of the whole run; 0 where there are none.
        time: When, local time.
    """

    id: str
    run: str
    work: str
    folder: str
    command: str
    cluster: str
    nodes: str
    tasks: int
    steps: int = 0
    time: str = ""


def note(run_dir: Path, *entries: Entry) -> None:
    """Add lines to the ledger of a run.

    Args:
        run_dir: The run folder, or the folder of a sweep.
        *entries: The jobs.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%S")
    text = "".join(json.dumps({**asdict(entry), "time": now}) + "\n" for entry in entries)
    path = run_dir / "logs" / "jobs.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:  # one write, so that two submissions at a time do not mix their lines
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":  # the last write was cut off
            text = "\n" + text
        os.write(handle, text.encode("utf-8"))
        os.fsync(handle)
    finally:
        os.close(handle)


def entries(run_dir: Path) -> list[Entry]:
    """Read the ledger of a run, oldest first.

    Args:
        run_dir: The run folder, or the folder of a sweep.

    Returns:
        Its lines; those that are torn, or of another program, are left out.
    """
    names = {field.name for field in fields(Entry)}
    found = []
    path = run_dir / "logs" / "jobs.jsonl"
    text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            data = json.loads(line)
            entry = Entry(**{key: data[key] for key in names & data.keys()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
        counts = (entry.tasks, entry.steps)
        texts = (value for key, value in asdict(entry).items() if key not in ("tasks", "steps"))
        if all(type(n) is int for n in counts) and all(type(text) is str for text in texts):
            found.append(entry)
    return found


def comment_of(run_dir: Path, own: str | None) -> str:
    """The comment by which a job is known as one of a run.

    Args:
        run_dir: The run folder.
        own: What the user wants in the comment.

    Returns:
        The comment.
    """
    mark = f"{MARK}{run_dir}"
    return f"{own} {mark}" if own else mark


def run_in(comment: str) -> Path | None:
    """Find the run folder in a job's comment.

    Args:
        comment: The comment.

    Returns:
        The folder; None for a job of something else.
    """
    _, found, path = comment.partition(MARK)
    return Path(path.strip()) if found and path.strip() else None
