"""One task after the other, or several at once in processes; results in the tasks' order.

Processes are spawned and not forked: the caller may have threads, whose locks a fork copies as they
stand. They end with the caller, however it ends.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")
Tick = Callable[[int], object]
"""Told how many samples more are done."""

_AHEAD = 4
"""Tasks of each process that wait or are finished, so that none idles behind a slow one."""
_POLL = 0.2
"""Seconds between two looks at how far the processes are."""


class _StoppedError(Exception):
    """Ends a task in a process once nobody wants its result."""


def spread(
    work: Callable[[Shared, Task, Tick], Result],
    shared: Shared,
    tasks: Iterable[Task],
    *,
    jobs: int,
    tick: Tick,
) -> Generator[Result, None, None]:
    """Do tasks and give their results in order.

    Args:
        work: A function of a module: what is shared, a task and a ``Tick`` -> a result.
        shared: Sent to each process once.
        tasks: Taken as they are needed.
        jobs: Processes; 1 does all in this one.
        tick: Told of the samples done, while tasks are at work.

    Yields:
        The result of each task.

    Raises:
        OSError: A process was killed from outside.
    """
    if jobs < 2:
        for task in tasks:
            yield work(shared, task, tick)
        return
    context = get_context("spawn")
    done, stopped = context.Value("q", 0), context.Event()
    told = 0
    pool = ProcessPoolExecutor(jobs, context, _begin, (work, shared, done, stopped))
    running: deque[Future[Any]] = deque()
    waiting = iter(tasks)
    try:
        while True:
            with _deaf_to_ctrl_c():
                for _, task in zip(range(_AHEAD * jobs - len(running)), waiting, strict=False):
                    running.append(pool.submit(_do, task))
            if not running:
                break
            finished = wait([running[0]], timeout=_POLL).done
            if done.value > told:
                now = int(done.value)
                tick(now - told)
                told = now
            if finished:
                yield running.popleft().result()
    except BrokenProcessPool as error:
        raise OSError(
            "a process was killed from outside, for want of memory as a rule; run again with "
            "fewer --jobs: what is done is kept"
        ) from error
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes so that Ctrl-C does not reach them while they still import; it waits here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_process: dict[str, Any] = {}


def _begin(work: Any, shared: Any, done: Any, stopped: Any) -> None:
    """Start a process: Ctrl-C is the caller's to hear, and its end is this one's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    caller = parent_process()
    assert caller is not None, "started by a pool"

    def end_with_the_caller() -> None:
        caller.join()
        os._exit(1)

    def tick(number: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        with done.get_lock():
            done.value += number

    Thread(target=end_with_the_caller, daemon=True).start()
    _process.update(work=work, shared=shared, tick=tick)


def _do(task: Any) -> Any:
    return _process["work"](_process["shared"], task, _process["tick"])
