"""Fetching ahead of need, on threads that come with work and go with it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

File = tuple[str, int, bytes]
"""Name, bytes (-1: unknown) and digest (empty: unknown) of a file."""

MOST_FILES = 1024
"""Files that wait at most; the oldest wishes go first."""

logger = logging.getLogger(__name__)


class Prefetch:
    """Fetches files on at most ``connections`` threads, those asked for last first.

    Threads are daemons, so that none holds a process at its end, and end when nothing waits, so
    that an idle store has none.

    Args:
        fetch: Fetches one file, if it is not there and nobody else fetches it.
        connections: Threads.
        most_bytes: Bytes that wait at most; more would evict what was fetched before it is read.
    """

    def __init__(self, fetch: Callable[[File], None], connections: int, most_bytes: int) -> None:
        self._fetch = fetch
        self._connections = connections
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._waiting: deque[File] = deque()
        self._threads = 0

    def expect(self, files: Sequence[File]) -> None:
        """Wish for files, in the order in which they will be read; never blocks.

        Args:
            files: They go before those wished for earlier.
        """
        with self._lock:
            wishes = dict.fromkeys([*files, *self._waiting])  # each once, at its first place
            self._waiting.clear()
            room = self._most_bytes
            for file in wishes:
                room -= max(file[1], 0)
                if len(self._waiting) == MOST_FILES or (room < 0 and self._waiting):
                    break
                self._waiting.append(file)
            wanted = min(self._connections, self._threads + len(self._waiting)) - self._threads
            self._threads += wanted
        for _ in range(wanted):
            threading.Thread(target=self._work, name="flava-prefetch", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                file = self._waiting.popleft()
            try:
                self._fetch(file)
            except Exception as error:
                # Whoever needs the file asks again, and is told then.
                logger.debug("%s: not fetched ahead: %s", file[0], error)
