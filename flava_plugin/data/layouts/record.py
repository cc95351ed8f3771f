"""What a reader of a published layout gives: records, and what it left out."""

from __future__ import annotations

from typing import Literal, NamedTuple

Fault = Literal[
    "broken line", "text is not UTF-8", "unsafe name", "ambiguous name", "unknown label"
]
"""What is wrong with a line itself; these count against the budget of broken lines."""

Filter = Literal[
    "empty line",
    "no text",
    "empty text",
    "no picture",
    "not English",
    "other language",
    "too few words",
    "other split",
    "no photograph",
    "no label",
    "further caption",
]
"""Why a sound line is left out; the user's choice or the data's nature, and counted."""

FAULTS: frozenset[str] = frozenset(
    {"broken line", "text is not UTF-8", "unsafe name", "ambiguous name", "unknown label"}
)


class Record(NamedTuple):
    """A caption and where its picture lies.

    Attributes:
        image: Path of the picture relative to the folder of pictures, with ``/``.
        text: The caption.
        picture: The layout's own number of the picture, by which captions of the same picture
            belong together; None takes one made of the path.
        where: File and line, for messages.
        others: Further places where the picture may lie, tried in order.
    """

    image: str
    text: str
    picture: int | None = None
    where: str = ""
    others: tuple[str, ...] = ()


class Dropped(NamedTuple):
    """A line, or a part of one, that makes no record.

    Attributes:
        reason: Why.
        where: File and line, and what was found there.
    """

    reason: Fault | Filter
    where: str
