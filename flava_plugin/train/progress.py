"""The progress of a run on the screen: a bar at a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

QUIET = 15.0
"""Seconds between two plain lines where there is no terminal."""

logger = logging.getLogger(__name__)


class Progress:
    """Steps done, time left, samples per second and the latest loss of every objective.

    Args:
        steps: Steps of the whole run.
        first: Steps done before.
        shown: Whether this rank shows anything.
    """

    def __init__(self, steps: int, first: int, *, shown: bool) -> None:
        self._shown = shown
        self._steps = steps
        self._first = self._done = first
        self._started = time.monotonic()
        self._printed = 0.0
        self._losses: dict[str, float] = {}
        at_terminal = shown and sys.stderr.isatty()
        self._bar = tqdm(
            total=steps, initial=first, unit="step", dynamic_ncols=True, disable=not at_terminal
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count a step."""
        self._done += 1
        self._bar.update()

    def show(self, line: Mapping[str, Any], objectives: list[str]) -> None:
        """Show the losses of a logged step.

        Args:
            line: A line of the metrics.
            objectives: The names of the losses in it.
        """
        if not self._shown:
            return
        self._losses |= {name: line[name] for name in objectives}
        losses = " ".join(f"{name} {value:.3f}" for name, value in self._losses.items())
        text = f"{line['samples_per_s']:.0f} samples/s  {losses}"
        self._bar.set_postfix_str(text, refresh=False)
        now = time.monotonic()
        due = now - self._printed >= QUIET or self._done == self._steps
        if self._bar.disable and due:
            self._printed = now
            logger.info("step %d/%d  %s left  %s", self._done, self._steps, self._left(now), text)

    def _left(self, now: float) -> str:
        per_step = (now - self._started) / max(self._done - self._first, 1)
        return str(tqdm.format_interval(per_step * (self._steps - self._done)))
