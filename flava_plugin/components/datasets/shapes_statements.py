"""What a caption claims, in a form whose truth can be checked, and how it is put into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flava_plugin.components.datasets.shapes_scene import (
    COLORS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
)

RELATIONS: dict[str, tuple[str, ...]] = {
    "above": ("above", "over"),
    "below": ("below", "under"),
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
}
"""Wordings of each relation."""

INVERSE = {"above": "below", "below": "above", "left": "right", "right": "left"}
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
OPENINGS = ("", "", "a picture of ", "there is ", "we see ")

Place = tuple[int | None, int | None]
"""Row and column; None leaves one open: (0, None) is "at the top"."""


@dataclass(frozen=True)
class Phrase:
    """Describes a thing; None leaves a property unsaid.

    Attributes:
        color: Index of ``COLORS``.
        shape: Index of ``SHAPES``.
        size: Index of ``SIZES``.
        texture: Index of ``TEXTURES``.
        place: Where it is.
    """

    color: int | None
    shape: int | None
    size: int | None = None
    texture: int | None = None
    place: Place = (None, None)

    def fits(self, thing: Thing) -> bool:
        """Whether the phrase describes a thing.

        Args:
            thing: A thing.

        Returns:
            True if nothing it says is wrong.
        """
        row, column = self.place
        return (
            (self.color is None or self.color == thing.color)
            and (self.shape is None or self.shape == thing.shape)
            and (self.size is None or self.size == thing.size)
            and (self.texture is None or self.texture == thing.texture)
            and (row is None or row == thing.row)
            and (column is None or column == thing.column)
        )


@dataclass(frozen=True)
class Statement:
    """The claim that a scene has different things that the phrases describe, in some relation.

    Attributes:
        phrases: One per thing.
        relation: A key of ``RELATIONS`` between the first two things, or None.
    """

    phrases: tuple[Phrase, ...]
    relation: str | None = None


def relations(first: Thing, second: Thing) -> list[str]:
    """List the relations the first thing has to the second: every one that their cells allow.

    Args:
        first: A thing.
        second: Another.

    Returns:
        One or two keys of ``RELATIONS``.
    """
    found = []
    if first.column != second.column:
        found.append("left" if first.column < second.column else "right")
    if first.row != second.row:
        found.append("above" if first.row < second.row else "below")
    return found


def holds(statement: Statement, scene: Scene) -> bool:
    """Decide whether a statement is true.

    Args:
        statement: The claim.
        scene: What there is.

    Returns:
        True if some choice of different things fits all phrases and the relation.
    """
    return _assign(statement, scene, ())


def _assign(statement: Statement, scene: Scene, chosen: tuple[Thing, ...]) -> bool:
    if len(chosen) == 2 and statement.relation not in (None, *relations(*chosen)):
        return False
    if len(chosen) == len(statement.phrases):
        return True
    phrase = statement.phrases[len(chosen)]
    return any(
        _assign(statement, scene, (*chosen, thing))
        for thing in scene.things
        if thing not in chosen and phrase.fits(thing)
    )


def noun(phrase: Phrase, article: str = "a") -> str:
    """Put a phrase into words, without its place.

    Args:
        phrase: The phrase.
        article: ``a`` or ``the``.

    Returns:
        Such as "a small red circle", "a circle" or "a red object".
    """
    words = [article]
    if phrase.size is not None:
        words.append(SIZES[phrase.size])
    if phrase.texture is not None:
        words.append(TEXTURES[phrase.texture])
    if phrase.color is not None:
        words.append(COLORS[phrase.color])
    words.append("object" if phrase.shape is None else SHAPES[phrase.shape])
    text = " ".join(words)
    return text.replace("a orange", "an orange").replace("a object", "an object")


def where(place: Place) -> str:
    """Put a place into words.

    Args:
        place: Row and column.

    Returns:
        Such as "in the top left", "in the center", "at the bottom", "on the right", or nothing.
    """
    row, column = place
    if row is not None and column is not None:
        if (row, column) == (1, 1):
            return "in the center"
        return f"in the {ROWS[row]} {COLUMNS[column]}"
    if row is not None:
        return f"at the {ROWS[row]}" if row != 1 else "in the middle row"
    if column is not None:
        return f"on the {COLUMNS[column]}" if column != 1 else "in the middle column"
    return ""


def located(phrase: Phrase, article: str = "a") -> str:
    """Put a phrase into words, with its place where it has one.

    Args:
        phrase: The phrase.
        article: ``a`` or ``the``.

    Returns:
        Such as "a red circle in the top left".
    """
    return f"{noun(phrase, article)} {where(phrase.place)}".rstrip()


def choose(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    """Pick one of several wordings.

    Args:
        rng: Source of randomness.
        options: Wordings.

    Returns:
        One of them, each as likely.
    """
    return options[int(rng.integers(len(options)))]


class Wording(NamedTuple):
    """How a statement is put into words: three numbers in [0, 1), one per choice.

    A false caption in the wording of the true one differs from it only in what it claims.
    """

    opening: float
    order: float
    synonym: float


def draw_wording(rng: np.random.Generator) -> Wording:
    """Draw a wording.

    Args:
        rng: Source of randomness.

    Returns:
        Each choice as likely as the others.
    """
    return Wording(*rng.random(3).tolist())


def word(statement: Statement, wording: Wording) -> str:
    """Put a statement into words.

    Args:
        statement: The claim.
        wording: Chooses among openings, synonyms and orders.

    Returns:
        A caption in lower case.
    """
    opening = OPENINGS[int(wording.opening * len(OPENINGS))]
    texts = [located(phrase) for phrase in statement.phrases]
    if statement.relation is not None:
        synonyms = RELATIONS[statement.relation]
        relation = synonyms[int(wording.synonym * len(synonyms))]
        first, second = texts[:2]
        text = (
            f"{opening}{first} {relation} {second}",
            f"{first} is {relation} {second}",
            f"{relation} {second} there is {first}",
        )[int(wording.order * 3)]
        return " , ".join([text, *(f"there is {third}" for third in texts[2:])])
    if len(texts) < 3:
        return opening + " and ".join(texts)
    return f"{opening}{texts[0]} , {texts[1]} and {texts[2]}"
