"""A sample as it lies in its file, nothing decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RawSample:
    """One example before decoding: for packing, checking and counting.

    Attributes:
        image: The picture's file, or None where there is none.
        extension: What the picture's bytes say it is: ``jpg``, ``png``, ``webp`` and so on; empty
            where there is no picture.
        text: The caption or sentence, or None.
        extra: Labels by name.
        name: Where it lies, for messages: shard and member, or a file.
    """

    image: bytes | None = None
    extension: str = ""
    text: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
