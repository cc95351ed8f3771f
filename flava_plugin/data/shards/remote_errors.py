"""What an error of a remote file system means: not there, not allowed, or try again."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import Literal, TypeGuard

Meaning = Literal["missing", "refused", "stalled", "short", "failed"]
"""``missing`` and ``refused`` last; the others pass, so the request is repeated."""

INCIDENTS: dict[Meaning, str] = {
    "stalled": "request stalled",
    "short": "short read",
    "failed": "request failed",
}
"""Words for the incidents of requests that are repeated."""

# Codes of S3's errors about the bucket, its region or the key (API reference, "Error responses").
# s3fs turns a bucket that is not there into the same error as a file that is not there.
_REFUSING_CODES = {
    "NoSuchBucket",
    "InvalidBucketName",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "AllAccessDisabled",
    "AccountProblem",
}
# Types of botocore, by name: it is not imported for its errors. The last one is what it says of a
# bucket's name that cannot be one.
_REFUSING_TYPES = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError"}
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)


class ShortReadError(OSError):
    """A request was answered with other than the bytes asked for."""


def meaning_of(error: BaseException) -> Meaning:
    """Say what an error of a file system means, whichever library it comes from.

    Args:
        error: What a request raised.

    Returns:
        ``missing``, ``refused``, ``stalled``, ``short``; ``failed`` for whatever else.
    """
    if isinstance(error, ShortReadError):
        return "short"
    chain = list(_chain(error))
    if any(_refuses(each) for each in chain):
        return "refused"
    if isinstance(error, FileNotFoundError) and _tells_more(error.__cause__):
        # fsspec's http says "not found" of whatever befell a question about a file's size
        return meaning_of(error.__cause__)
    if any(isinstance(each, FileNotFoundError) or _status(each) in (404, 410) for each in chain):
        return "missing"
    if any(isinstance(e, _TIMEOUTS) or "Timeout" in type(e).__name__ for e in chain):
        return "stalled"
    return "failed"


def described(error: BaseException) -> str:
    """Put an error into one line.

    Args:
        error: What a request raised.

    Returns:
        Its type and message, shortened.
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")


def _tells_more(cause: BaseException | None) -> TypeGuard[BaseException]:
    # botocore's errors, which s3fs translates rightly, have a response
    return cause is not None and not hasattr(cause, "response")


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(5):  # no library chains more, and a chain may go round
        if current is None:
            return
        yield current
        current = current.__cause__


def _refuses(error: BaseException) -> bool:
    if isinstance(error, PermissionError) or _status(error) in (401, 403, 407):
        return True
    response = getattr(error, "response", None)
    if isinstance(response, dict) and response.get("Error", {}).get("Code") in _REFUSING_CODES:
        return True
    text = str(error)
    # gcsfs: both in plain text
    if text.startswith("Forbidden") or "bucket does not exist" in text:
        return True
    return type(error).__name__ in _REFUSING_TYPES


def _status(error: BaseException) -> int | None:
    for name in ("status", "code"):  # aiohttp; gcsfs
        value = getattr(error, name, None)
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.isdigit():
            return int(value)
    return None
