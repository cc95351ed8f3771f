"""What an evaluator shows in the report besides its figures: rows of pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Cell:
    """One picture or one text of an exhibit.

    Attributes:
        text: What it says, or what stands under the picture.
        image: The picture, or None for a text.
        right: True marks it as right, False as wrong, None not at all.
    """

    text: str = ""
    image: Image.Image | None = None
    right: bool | None = None


@dataclass(frozen=True)
class Exhibit:
    """A table of the report: one row per example.

    Attributes:
        title: Heading of the section.
        note: One or two sentences that say what is to be seen.
        columns: Heading of each column; the last one covers all further cells of a row.
        rows: Cells of each example.
    """

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=tuple)
