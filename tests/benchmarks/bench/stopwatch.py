"""Marks in time: by a clock, or by events on a GPU's stream."""

from __future__ import annotations

import time
from typing import Any, Literal

import torch

Clock = Literal["wall", "cpu", "cuda"]


class Stopwatch:
    """Takes marks and tells the time between them.

    Args:
        clock: ``wall``; ``cpu``: the time this process spent on all its threads, which survives a
            busy machine; ``cuda``: events, which do not hold up the stream.
    """

    def __init__(self, clock: Clock = "wall") -> None:
        self.clock = clock
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note this moment."""
        if self.clock == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            read = time.perf_counter if self.clock == "wall" else time.process_time
            self._marks.append(read())

    def take(self) -> list[float]:
        """Seconds between consecutive marks; they are dropped."""
        marks, self._marks = self._marks, []
        pairs = zip(marks[:-1], marks[1:], strict=True)
        if self.clock == "cuda":
            torch.cuda.synchronize()
            return [first.elapsed_time(second) / 1000 for first, second in pairs]
        return [second - first for first, second in pairs]
