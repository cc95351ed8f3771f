"""Parts worked through by several processes; each is done whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol

Progress = Callable[[int, int], None]
"""Told how many parts are done, and how many there are in all."""


class PartWork(Protocol):
    """Something that is done to each part of a source; it travels into other processes."""

    def todo(self) -> list[int]:
        """Parts that are not done yet."""
        ...

    def do(self, part: int, /) -> None:
        """Do one part."""
        ...


_work: list[PartWork] = []


def do_parts(work: PartWork, parts: int, jobs: int, progress: Progress | None = None) -> None:
    """Do what is left of some work.

    Args:
        work: The work.
        parts: How many parts there are, those done before included.
        jobs: Processes.
        progress: Told each part.

    Raises:
        OSError: A process was killed.
    """
    todo = work.todo()
    done = parts - len(todo)
    if progress is not None:
        progress(done, parts)
    if jobs < 2 or len(todo) < 2:
        for part in todo:
            work.do(part)
            done += 1
            if progress is not None:
                progress(done, parts)
        return
    # not forked: the caller may have threads, whose locks a fork would copy as they stand
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), get_context("spawn"), initializer=_take, initargs=(work,)
    )
    with pool:
        try:
            _do_all(pool, todo, jobs, lambda number: progress and progress(done + number, parts))
        except BrokenProcessPool as error:
            raise OSError(
                "a process was killed, for want of memory as a rule; run again with fewer --jobs, "
                "it goes on where it was"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _do_all(
    pool: ProcessPoolExecutor, todo: Sequence[int], jobs: int, told: Callable[[int], object]
) -> None:
    waiting, finished = iter(todo), 0
    running = {pool.submit(_do, part) for part, _ in zip(waiting, range(4 * jobs), strict=False)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        finished += len(done)
        running |= {pool.submit(_do, part) for _, part in zip(done, waiting, strict=False)}
        told(finished)


def _take(work: PartWork) -> None:
    _work.append(work)


def _do(part: int) -> None:
    _work[0].do(part)
