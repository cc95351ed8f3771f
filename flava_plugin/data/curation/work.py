"""Parts worked through by several processes; each is done whole or not at all."""

from __future__ import annotations

from typing import Protocol

from flava_plugin.data.spreading import Tick, spread


class PartWork(Protocol):
    """Something that is done to each part of a source; it travels into other processes."""

    def todo(self) -> list[int]:
        """Parts that are not done yet."""
        ...

    def do(self, part: int, /) -> None:
        """Do one part."""
        ...


def do_parts(work: PartWork, parts: int, jobs: int, tick: Tick = lambda number: None) -> None:
    """Do what is left of some work.

    Args:
        work: The work.
        parts: How many parts there are, those done before included.
        jobs: Processes.
        tick: Told of the parts that are done.

    Raises:
        OSError: A process was killed.
    """
    todo = work.todo()
    tick(parts - len(todo))
    for _ in spread(_do, work, todo, jobs=min(jobs, max(1, len(todo))), tick=tick):
        pass


def _do(work: PartWork, part: int, tick: Tick) -> None:
    work.do(part)
    tick(1)
