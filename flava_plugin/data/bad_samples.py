"""How many unreadable samples a run has met, and when that is too many."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from flava_plugin.data.reading import BadSample, UnreadableDataError

logger = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Samples remembered one by one; a run that meets more counts each as often as it meets it."""

NAMED = 20
"""Samples of each source and reason that the log names; then every one that doubles the number."""


class BadSamples:
    """The unreadable samples of a run, each counted once however often it is met.

    Args:
        budget: How many a run puts up with (``data.bad_samples``).
        share: Of the rows read, where that allows more (``data.bad_share``).
    """

    def __init__(self, budget: int, share: float = 0.0) -> None:
        self.budget = budget
        self.share = share
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seen: dict[str, set[int]] = {}
        self._examples: dict[tuple[str, str], BadSample] = {}

    def __len__(self) -> int:
        """Number of different samples."""
        return self._counts.total()

    def add(self, records: Iterable[BadSample], rows: int = 0) -> None:
        """Count what a step met, on all ranks where ranks shall agree.

        Args:
            records: ``Step.bad``.
            rows: Rows of all sources that the run has read so far.

        Raises:
            UnreadableDataError: The budget is exceeded.
        """
        for record in records:
            seen = self._seen.setdefault(record.source, set())
            if record.index in seen:
                continue
            if sum(map(len, self._seen.values())) < REMEMBERED:
                seen.add(record.index)
            self._counts[record.source, record.reason] += 1
            self._examples.setdefault((record.source, record.reason), record)
            self._tell(record, self._counts[record.source, record.reason])
        if len(self) > max(self.budget, self.share * rows):
            raise UnreadableDataError(self._message(rows))

    def counts(self) -> dict[str, dict[str, int]]:
        """Count by source and reason.

        Returns:
            ``{source: {reason: number}}``, names in order.
        """
        table: dict[str, dict[str, int]] = {}
        for (source, reason), number in sorted(self._counts.items()):
            table.setdefault(source, {})[reason] = number
        return table

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps.

        Returns:
            Plain lists and strings, for JSON.
        """
        return {
            "counts": self.counts(),
            "seen": {source: sorted(seen) for source, seen in sorted(self._seen.items())},
            "examples": [list(astuple(record)) for record in self._examples.values()],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up the counts of a checkpoint.

        Args:
            state: What ``state`` gave.
        """
        self._counts = Counter(
            {
                (source, reason): number
                for source, reasons in state["counts"].items()
                for reason, number in reasons.items()
            }
        )
        self._seen = {source: set(seen) for source, seen in state["seen"].items()}
        examples = [BadSample(*record) for record in state["examples"]]
        self._examples = {(record.source, record.reason): record for record in examples}

    def _tell(self, record: BadSample, number: int) -> None:
        """Name a sample in the log, unless the log would be full of its kind."""
        if number > NAMED and number & (number - 1):
            return
        more = "; more of the kind are only counted, in data.json" if number == NAMED else ""
        logger.warning(
            "data.sources.%s: sample %d cannot be read and is replaced: %s (number %d), %s%s",
            *(record.source, record.index, record.reason, number, record.detail or "no more said"),
            more,
        )

    def _message(self, rows: int) -> str:
        allowed = f"data.bad_samples: {self.budget}"
        if self.share:
            allowed += f" and data.bad_share: {self.share:g} of {rows} rows"
        lines = [f"{len(self)} samples could not be read, more than {allowed}"]
        for (source, reason), number in sorted(self._counts.items()):
            example = self._examples[source, reason]
            detail = f", {example.detail}" if example.detail else ""
            lines.append(
                f"  data.sources.{source}: {number} x {reason} (sample {example.index}{detail})"
            )
        lines.append(
            "repair or remove them (flava data check names them all), or raise data.bad_samples or "
            "data.bad_share"
        )
        return "\n".join(lines)
