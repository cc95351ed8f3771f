"""Requests to a file system that fails, stalls and answers short: watched, counted, repeated."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np

from flava_plugin.data.damage import DamagedSampleError, Reason, StoreError
from flava_plugin.data.randomness import key_of, uniform
from flava_plugin.data.shards.remote_errors import (
    INCIDENTS,
    ShortReadError,
    described,
    meaning_of,
)
from flava_plugin.data.shards.remote_incidents import Incidents

SPAN = 8 * 2**20
"""Most bytes of a request: a failed one costs little, and each answer shows that the line lives."""

SMALLEST_SPAN = 2**18
"""Bytes of a request on a line so slow that larger ones ran out of time."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the first repetition, doubled for each further one, and their bound."""


class Requests:
    """Asks one file system for pieces of files until it answers or ``retries`` are used up.

    Args:
        file_system: An fsspec file system, made in this process.
        retries: Repetitions of a request.
        timeout: Seconds after which an unanswered request is given up.
        incidents: Where failures are counted.
    """

    def __init__(
        self, file_system: Any, retries: int, timeout: float, incidents: Incidents
    ) -> None:
        self.file_system = file_system
        self.retries = retries
        self.timeout = timeout
        self.incidents = incidents

    def size(self, path: str) -> int | None:
        """Ask how long a file is.

        Args:
            path: The file, as the file system names it.

        Returns:
            Its bytes, or None where the file system does not say.
        """
        failures = 0
        while True:
            try:
                found = self._ask("info", path)["size"]
                return None if found is None else int(found)
            except Exception as error:
                failures += 1
                self._weigh(path, error, failures)
                self.pause(path, failures)

    def pieces(self, path: str, size: int | None) -> Iterator[bytes]:
        """Read a file from its beginning to its end.

        Args:
            path: The file, as the file system names it.
            size: Its bytes; None takes whatever one request answers.

        Yields:
            bytes: Its next bytes.

        Raises:
            DamagedSampleError: It is not there, or not as long.
        """
        offset, span, failures = 0, SPAN, 0
        while size is None or offset < size:
            wanted = None if size is None else min(span, size - offset)
            try:
                data = self._range(path, offset, wanted, size)
            except Exception as error:
                failures += 1
                meaning = self._weigh(path, error, failures)
                if meaning == "stalled":
                    span = max(span // 4, min(SMALLEST_SPAN, SPAN))
                elif failures == 2 and size is not None:
                    # Twice, and not for want of time: the file itself may not be the one indexed.
                    self._compare(path, size)
                self.pause(path, failures)
                continue
            failures = 0
            yield data
            offset += len(data)
            if size is None:
                return

    def pause(self, path: str, failures: int) -> None:
        """Wait before a repetition, twice as long after each, less a share that spreads load.

        Args:
            path: The file.
            failures: How many there were.
        """
        longest = min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE)
        share = uniform(key_of("remote pause", path, failures)[0], np.zeros(1))[0]
        time.sleep(longest * (0.5 + 0.5 * float(share)))

    def _range(self, path: str, offset: int, wanted: int | None, size: int | None) -> bytes:
        if wanted is None:
            return bytes(self._ask("cat_file", path))
        data = bytes(self._ask("cat_file", path, start=offset, end=offset + wanted))
        if len(data) > wanted and len(data) == size:
            return data[offset:]  # a server that knows no ranges sends the whole file each time
        if len(data) != wanted:
            raise ShortReadError(
                f"{len(data)} bytes where bytes {offset} to {offset + wanted} were asked for"
            )
        return data

    def _compare(self, path: str, size: int) -> None:
        try:
            found = self._ask("info", path)["size"]
        except Exception as error:
            self._weigh(path, error, 1)
            return
        if found is not None and int(found) != size:
            reason: Reason = "truncated tar" if int(found) < size else "damaged tar"
            raise DamagedSampleError(
                reason if not path.endswith(".idx") else "damaged index",
                f"{path}: {found} bytes, but the index says {size}",
            )

    def _weigh(self, path: str, error: Exception, failures: int) -> str:
        """Count an error that passes; raise what one that lasts, or one too many, means."""
        meaning = meaning_of(error)
        if meaning == "missing":
            raise DamagedSampleError("missing shard", f"{path}: {described(error)}") from error
        if meaning == "refused":
            raise StoreError(
                f"{path}: the store refuses: {described(error)}; check the location, the "
                "credentials and what they may read (some stores say so of a file that is not "
                "there, too)"
            ) from error
        left = self.retries + 1 - failures
        self.incidents.count(INCIDENTS[meaning], f"{path}: {described(error)}; {left} tries left")
        if left < 1:
            raise StoreError(
                f"{path}: {failures} requests in a row failed, the last with "
                f"{described(error)}; check the network and the store, then start the run again: "
                "it goes on from its last checkpoint (cache.retries and cache.timeout say how "
                "long it waits)"
            ) from error
        return meaning

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        """Make one request; whatever hangs in it neither holds the caller nor the process."""
        inner = self.file_system._strip_protocol(path)
        future: Future[Any]
        if self.file_system.async_impl:
            coroutine = getattr(self.file_system, f"_{method}")(inner, **options)
            future = asyncio.run_coroutine_threadsafe(coroutine, self.file_system.loop)
        else:
            future = Future()
            call = getattr(self.file_system, method)
            threading.Thread(
                target=_answer, args=(future, call, inner, options), daemon=True
            ).start()
        try:
            return future.result(self.timeout)
        except FutureTimeoutError:
            if future.done() and not future.cancelled():
                raise  # the library's own
            raise TimeoutError(f"no answer within {self.timeout:g} s") from None
        finally:
            future.cancel()  # nothing to cancel but where the wait ended early


def _answer(future: Future[Any], call: Any, path: str, options: dict[str, Any]) -> None:
    try:
        answer = call(path, **options)
    except BaseException as error:
        _settle(future, None, error)
    else:
        _settle(future, answer, None)


def _settle(future: Future[Any], answer: Any, error: BaseException | None) -> None:
    # Nobody waits for a future that was given up; setting its result would be an error.
    if future.set_running_or_notify_cancel():
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)
