"""How many unreadable samples a run has met, and when that is too many."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from flava_plugin.data.reading import BadSample, UnreadableDataError

logger = logging.getLogger(__name__)


class BadSamples:
    """The unreadable samples of a run, each counted once however often it is met.

    Args:
        budget: How many a run puts up with (``data.bad_samples``).
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._seen: dict[tuple[str, int], BadSample] = {}

    def __len__(self) -> int:
        """Number of different samples."""
        return len(self._seen)

    def add(self, records: Iterable[BadSample]) -> None:
        """Count what a step met, on all ranks where ranks shall agree.

        Args:
            records: ``Step.bad``.

        Raises:
            UnreadableDataError: The budget is exceeded.
        """
        for record in records:
            if (record.source, record.index) not in self._seen:
                self._seen[record.source, record.index] = record
                logger.warning(
                    "data.sources.%s: sample %d cannot be read and is replaced: %s %s",
                    *(record.source, record.index, record.reason, record.detail),
                )
        if len(self._seen) > self.budget:
            raise UnreadableDataError(self._message())

    def counts(self) -> dict[str, dict[str, int]]:
        """Count by source and reason.

        Returns:
            ``{source: {reason: number}}``, names in order.
        """
        counted = Counter((record.source, record.reason) for record in self._seen.values())
        table: dict[str, dict[str, int]] = {}
        for (source, reason), number in sorted(counted.items()):
            table.setdefault(source, {})[reason] = number
        return table

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps.

        Returns:
            Plain lists and strings, for JSON.
        """
        return {"samples": [list(astuple(record)) for record in self._seen.values()]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up the counts of a checkpoint.

        Args:
            state: What ``state`` gave.
        """
        records = [BadSample(*record) for record in state["samples"]]
        self._seen = {(record.source, record.index): record for record in records}

    def _message(self) -> str:
        lines = [
            f"{len(self)} samples could not be read, more than data.bad_samples: {self.budget}"
        ]
        for source, reasons in self.counts().items():
            for reason, number in reasons.items():
                example = next(
                    record
                    for record in self._seen.values()
                    if (record.source, record.reason) == (source, reason)
                )
                detail = f", {example.detail}" if example.detail else ""
                lines.append(
                    f"  data.sources.{source}: {number} x {reason} (sample {example.index}{detail})"
                )
        lines.append("repair or remove them, or raise data.bad_samples")
        return "\n".join(lines)
