"""The C library's heap, which keeps what tensors on a CPU give back.

Micro-batches differ in the length of their texts, so a tensor seldom fits where the last one was,
and the process grows with the micro-batches it has seen: by a third in a step of 64 on the embedded
data (``make bench BENCH="--cached"``). Having large tensors mapped one by one instead
(``M_MMAP_THRESHOLD``) cost a fifth of the speed there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch

TRIM_EVERY = 4
"""Micro-batches between two trims. A trim has pages cleared anew: every 4th cost 14 % of the time
of a step of 32 micro-batches and keeps the peak at 4,096 rows within 1.2 times that at 512; every
8th cost 6 % and does not (``tests/benchmarks/RESULTS.md``)."""


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # no C library to look into, as on Windows
        return None
    return found


def give_back(micro_batch: int, device: torch.device) -> None:
    """Return unused pages to the system after every ``TRIM_EVERY`` micro-batches.

    Args:
        micro_batch: Number of the micro-batch that is done, from 0.
        device: Where it was computed; on others than a CPU, and where the C library cannot trim,
            nothing happens.
    """
    due = device.type == "cpu" and (micro_batch + 1) % TRIM_EVERY == 0
    if due and (trim := _trim()) is not None:
        trim(0)
