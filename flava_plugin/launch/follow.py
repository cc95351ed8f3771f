"""The logs of a job: which files there are, and what is new in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
                    if file.seek(0, 2) < self._seen[index]:  # cut off and begun again
                        self._seen[index] = 0
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
