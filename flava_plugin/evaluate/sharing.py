"""How the ranks of an evaluation share its work: group by group, with the sums of one process.

Every rank runs every evaluator and comes to the same calls in the same order. The groups of
``share`` are dealt to the ranks in turn, each is computed by one of them exactly as one process
computes it, and all ranks go on with all results: so figures are the same to the last bit with any
number of ranks on machines of one kind, and an evaluator need not know of ranks.

What it costs: a message for each rank's group, which every rank keeps as far as the evaluator keeps
results (embeddings of COCO's 5k pictures and 25k captions: 92 MB on each rank at 768 numbers). What
an evaluator does outside of ``share`` and of ``Flava``'s encode methods, every rank does, and a
call of no more than ``Flava.batch_size`` rows is one rank's: either gains nothing, and is right.
Only a library that gathers over ranks by itself has to be told not to, as torchmetrics by
``sync_on_compute=False``: every rank has fed its metric everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch.distributed as dist

Group = TypeVar("Group")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """This process among those of an evaluation.

    Attributes:
        rank: Its number, from 0.
        size: How many there are; with several, torch's process group is there.
    """

    rank: int = 0
    size: int = 1


ALONE = Ranks()
"""The only process."""


class Shared(Protocol):
    """What ranks hold one each of: a ``Flava``."""

    ranks: Ranks


def share(
    flava: Shared, groups: Iterable[Group], work: Callable[[Group], Result]
) -> Iterator[Result]:
    """Do some work on every group, each on one rank.

    Args:
        flava: The model; in the work it is this rank's alone.
        groups: The same ones in the same order on every rank, read lazily: a rank keeps none but
            its own. Indices of samples are better groups than samples, which every rank would read.
        work: What is done to a group.

    Yields:
        Result: Of every group in order, on every rank. Tensors lie on the CPU.

    Raises:
        Exception: What the work raised, on every rank: itself where it did, and elsewhere one of
            the same kind that names the rank.
    """
    ranks = flava.ranks
    if ranks.size == 1:
        yield from map(work, groups)
        return
    own, place = _NOTHING, -1
    for place, group in enumerate(groups):
        turn = place % ranks.size
        if turn == ranks.rank:
            flava.ranks = ALONE
            own = _try(work, group)
            flava.ranks = ranks
        if turn == ranks.size - 1:
            yield from _exchange(own, ranks, ranks.size)
            own = _NOTHING
    if rest := (place + 1) % ranks.size:
        yield from _exchange(own, ranks, rest)


def first(flava: Shared, work: Callable[[], Result]) -> Result:
    """Have rank 0 do some work that cannot be divided.

    Args:
        flava: The model.
        work: The work.

    Returns:
        Its result, on every rank; it is copied there.
    """
    return next(share(flava, [None], lambda _: work()))


@dataclass(frozen=True)
class _Answer:
    """What a rank has to tell the others: a result, or what kept it from one."""

    result: Any = None
    error: Exception | None = None

    @property
    def told(self) -> tuple[Any, type[BaseException] | None, str, int | None]:
        """As it is sent: of an error the nearest class that every rank knows, text and number."""
        for kind in type(self.error).__mro__ if self.error is not None else ():
            if kind.__module__ == "builtins" or kind.__module__.startswith("flava_plugin."):
                return None, kind, str(self.error), getattr(self.error, "errno", None)
        return self.result, None, "", None


_NOTHING = _Answer()


def _try(work: Callable[[Group], Any], group: Group) -> _Answer:
    try:
        return _Answer(work(group))
    except Exception as error:  # the others wait for an answer, whatever it is
        return _Answer(error=error)


def _exchange(own: _Answer, ranks: Ranks, count: int) -> list[Any]:
    """Give the results of the first ``count`` ranks, or raise what the first that failed says."""
    told: list[Any] = [None] * ranks.size
    dist.all_gather_object(told, own.told)
    for rank, (_, kind, text, number) in enumerate(told):
        if kind is not None and rank == ranks.rank:
            assert own.error is not None
            raise own.error
        if kind is not None:
            # made without its __init__, whose arguments are the class's own affair
            error = kind.__new__(kind, f"rank {rank}: {text}")
            if isinstance(error, OSError):
                error.errno = number
            raise error
    return [result for result, *_ in told[:count]]
