"""What can be wrong with a sample, in words that many samples share."""

from __future__ import annotations

from typing import Literal

from PIL import Image, UnidentifiedImageError

Reason = Literal[
    "missing shard",
    "truncated tar",
    "damaged tar",
    "damaged index",
    "unsafe name",
    "wrong extension",
    "no picture",
    "broken picture",
    "decompression bomb",
    "no text",
    "empty text",
    "text is not UTF-8",
    "broken record",
    "no codes",
]


class DamagedSampleError(ValueError):
    """A sample that is not what it should be; a substitute takes its place, and it is counted.

    Args:
        reason: What is wrong.
        detail: Where, and what was found.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class StoreError(RuntimeError):
    """A store of shards does not answer, or not rightly, however often it is asked.

    It ends the run, which goes on from its last checkpoint when the store is back: a substitute
    would make the order of samples depend on the network.
    """


def reason_of(error: Exception) -> str:
    """Name what an error says about a sample.

    Args:
        error: What reading or decoding it raised.

    Returns:
        A ``Reason``, or the error's type where none fits.
    """
    if isinstance(error, DamagedSampleError):
        return error.reason
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "decompression bomb"
    if isinstance(error, UnidentifiedImageError):
        return "broken picture"
    return type(error).__name__
