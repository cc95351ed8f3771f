"""Questions about scenes and hypotheses about them, with labels that are checked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flava_plugin.components.datasets.shapes_captions import describe, falsify
from flava_plugin.components.datasets.shapes_scene import COLORS, SHAPES, Combination, Scene, Thing
from flava_plugin.components.datasets.shapes_statements import (
    INVERSE,
    RELATIONS,
    Phrase,
    Statement,
    choose,
    draw_wording,
    holds,
    noun,
    relations,
    where,
    word,
)

ANSWERS = (*COLORS, *SHAPES, "1", "2", "3", "yes", "no")
KINDS = ("color", "shape", "count", "existence", "relation")
LABELS = ("entailment", "neutral", "contradiction")
UNKNOWABLE = (
    "is made of wood",
    "is made of metal",
    "is made of glass",
    "is heavy",
    "is new",
    "is soft",
)


class Question(NamedTuple):
    """A question about a picture.

    Attributes:
        text: The question.
        answer: Index of ``ANSWERS``.
        kind: Index of ``KINDS``.
    """

    text: str
    answer: int
    kind: int


def ask(
    scene: Scene,
    rng: np.random.Generator,
    pool: tuple[Combination, ...],
    kind: str | None = None,
) -> Question | None:
    """Ask about a scene.

    Args:
        scene: The scene.
        rng: Source of randomness.
        pool: Combinations that may be named.
        kind: A key of ``KINDS``; None draws one.

    Returns:
        A question with one answer, or None where the scene allows none of that kind (two things
        of the shape whose colour is asked for, one thing and no relation).
    """
    kind = kind or choose(rng, KINDS)
    thing = scene.things[int(rng.integers(len(scene.things)))]
    by_place = rng.random() < 0.5
    asked: tuple[str, str] | None
    if kind == "color":
        asked = _color(scene, thing, by_place)
    elif kind == "shape":
        asked = _shape(scene, thing, by_place)
    elif kind == "count":
        asked = "how many objects are there ?", str(len(scene.things))
    elif kind == "existence":
        asked = _existence(scene, thing, rng, pool)
    else:
        asked = _relation(scene, rng)
    if asked is None:
        return None
    return Question(asked[0], ANSWERS.index(asked[1]), KINDS.index(kind))


def _color(scene: Scene, thing: Thing, by_place: bool) -> tuple[str, str] | None:
    answer = COLORS[thing.color]
    if by_place:
        return f"what color is the object {where((thing.row, thing.column))} ?", answer
    if sum(other.shape == thing.shape for other in scene.things) > 1:
        return None
    return f"what color is the {SHAPES[thing.shape]} ?", answer


def _shape(scene: Scene, thing: Thing, by_place: bool) -> tuple[str, str] | None:
    answer = SHAPES[thing.shape]
    if by_place:
        return f"what shape is the object {where((thing.row, thing.column))} ?", answer
    if sum(other.color == thing.color for other in scene.things) > 1:
        return None
    return f"what shape is the {COLORS[thing.color]} object ?", answer


def _existence(
    scene: Scene, thing: Thing, rng: np.random.Generator, pool: tuple[Combination, ...]
) -> tuple[str, str]:
    present = Phrase(thing.color, thing.shape)
    if rng.random() < 0.5:
        return f"is there {noun(present)} ?", "yes"
    absent = falsify(Statement((present,)), scene, rng, pool).phrases[0]
    return f"is there {noun(absent)} ?", "no"


def _relation(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    if len(scene.things) < 2:
        return None
    at = rng.permutation(len(scene.things))
    first, second = scene.things[int(at[0])], scene.things[int(at[1])]
    relation = choose(rng, relations(first, second))
    true = rng.random() < 0.5
    said = choose(rng, RELATIONS[relation if true else INVERSE[relation]])
    one, other = (noun(Phrase(t.color, t.shape), "the") for t in (first, second))
    return f"is {one} {said} {other} ?", "yes" if true else "no"


def suppose(
    scene: Scene, rng: np.random.Generator, pool: tuple[Combination, ...], variant: str
) -> tuple[str, int]:
    """State a hypothesis about a picture.

    Args:
        scene: What the picture shows.
        rng: Source of randomness.
        pool: Combinations that may be named.
        variant: Of the data.

    Returns:
        The hypothesis and the index of ``LABELS``: an entailed one holds, a contradiction does not,
        a neutral one says of a thing what no picture can tell.
    """
    label = int(rng.integers(3))
    if label == 1:
        thing = scene.things[int(rng.integers(len(scene.things)))]
        return f"{noun(Phrase(thing.color, thing.shape), 'the')} {choose(rng, UNKNOWABLE)}", 1
    statement = describe(scene, rng, variant=variant, full=False)
    if label == 2:
        statement = falsify(statement, scene, rng, pool)
    assert holds(statement, scene) == (label == 0), "a hypothesis bears the label it deserves"
    return word(statement, draw_wording(rng)), label
