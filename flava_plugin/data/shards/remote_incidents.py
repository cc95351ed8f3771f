"""What went wrong between this machine and a store: counted by kind, and named in the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

logger = logging.getLogger(__name__)

LOG_EVERY = 10.0
"""Seconds between two lines of the log about incidents of one kind."""


class Incidents:
    """Counts incidents of one process; any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._silent: Counter[str] = Counter()
        self._said: dict[str, float] = {}

    def count(self, kind: str, detail: str) -> None:
        """Count an incident, and say so where the log has not just named its kind.

        Args:
            kind: Words that many incidents share, as "request failed".
            detail: Which file, what happened, what comes next.
        """
        now = time.monotonic()
        with self._lock:
            self._counts[kind] += 1
            if now - self._said.get(kind, -LOG_EVERY) < LOG_EVERY:
                self._silent[kind] += 1
                return
            self._said[kind] = now
            more = self._silent.pop(kind, 0)
        unsaid = f" ({more} more since the last such line)" if more else ""
        logger.warning("%s: %s%s", kind, detail, unsaid)

    def take(self) -> dict[str, int]:
        """Hand over the counts and start again at none.

        Returns:
            How many of each kind since the last call.
        """
        with self._lock:
            taken = dict(self._counts)
            self._counts.clear()
        return taken
