"""What can be wrong with a sample, in words that many samples share."""

from __future__ import annotations

import errno
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

OF_THE_MACHINE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
)
"""Numbers of errors that no file is to blame for. They end the run, which goes on from its last
checkpoint: a substitute would make the order depend on the machine's state."""


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


def raise_of_the_machine(error: Exception) -> None:
    """Pass on an error that no sample is to blame for.

    Args:
        error: What reading one raised.

    Raises:
        OSError: It is one of ``OF_THE_MACHINE``.
    """
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        raise error
