"""The logs of a job: which files there are, and what is new in them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from flava_plugin.launch.ledger import Entry

PERIOD = 0.5
"""Seconds between two looks at the files."""


def log_files(entry: Entry, rank: int, kinds: Sequence[str]) -> list[Path]:
    """Name the logs of one process of a job.

    Args:
        entry: The job.
        rank: The process.
        kinds: ``out``, ``err`` or both.

    Returns:
        Paths; a file that does not exist is one the process has not opened yet.
    """
    return [Path(entry.folder) / f"{entry.id}_{rank}_log.{kind}" for kind in kinds]


def where_it_lies_now(entry: Entry, run_dir: Path) -> Entry:
    """Find a job's files in a run folder that was moved since.

    Args:
        entry: The job.
        run_dir: Where the run folder is now.

    Returns:
        The job, with the folder of its files.
    """
    moved = run_dir / "logs" / Path(entry.folder).name
    there = Path(entry.folder).is_dir() or not moved.is_dir()
    return entry if there else replace(entry, folder=str(moved))


def ranks(entry: Entry) -> list[int]:
    """The processes of a job that have written a log.

    Args:
        entry: The job.

    Returns:
        Their numbers, upwards.
    """
    found = (path.name for path in Path(entry.folder).glob(f"{entry.id}_*_log.out"))
    middles = (name.removeprefix(f"{entry.id}_").removesuffix("_log.out") for name in found)
    return sorted(int(middle) for middle in middles if middle.isdigit())


class Tail:
    """Hands on what is appended to some files, whole lines of one file at a time.

    Args:
        paths: The files; they may come later.
        write: Takes the text.
        marks: What stands before each line, by file; none for no file.
    """

    def __init__(
        self, paths: Sequence[Path], write: Callable[[str], object], marks: Sequence[str] = ()
    ) -> None:
        self._paths = list(paths)
        self._write = write
        self._marks = [*marks, *[""] * (len(paths) - len(marks))]
        self._seen = [0] * len(paths)
        self._files = [0] * len(paths)

    def show(self, *, to_the_end: bool = False) -> bool:
        """Hand on what is new.

        Args:
            to_the_end: Whether to take a last line without an end too.

        Returns:
            Whether there was something.
        """
        something = False
        for index, path in enumerate(self._paths):
            try:
                with path.open("rb") as file:
                    inode = os.fstat(file.fileno()).st_ino
                    if file.seek(0, 2) < self._seen[index] or inode != self._files[index]:
                        self._seen[index], self._files[index] = 0, inode  # begun again
                    file.seek(self._seen[index])
                    data = file.read()
            except OSError:
                continue
            end = len(data) if to_the_end else data.rfind(b"\n") + 1
            if end:
                something = True
                self._seen[index] += end
                text = data[:end].decode("utf-8", errors="replace")
                lines = text.splitlines()
                self._write("".join(f"{self._marks[index]}{line}\n" for line in lines))
        return something


def follow(tail: Tail, ended: Callable[[], bool], *, ask_every: float = 10.0) -> None:
    """Show logs until their job has ended.

    Args:
        tail: The logs.
        ended: Whether the job has ended; asked now and then, as it may ask the controller.
        ask_every: Seconds between two such questions.
    """
    asked = time.monotonic()
    while True:
        new = tail.show()
        if not new and time.monotonic() - asked >= ask_every:
            asked = time.monotonic()
            if ended():
                tail.show(to_the_end=True)
                return
        time.sleep(PERIOD)
