"""Captions of the embedded data: true ones, and ones that are close and false."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flava_plugin.components.datasets.shapes_scene import Combination, Scene, Thing
from flava_plugin.components.datasets.shapes_statements import (
    INVERSE,
    Phrase,
    Place,
    Statement,
    holds,
    relations,
)

CHANGES = ("color", "color", "color", "place", "place", "shape", "shape", "swap", "relation")
"""Kinds of false captions, from easy to see to hard, as often as they are tried first."""

TRIES = 24
"""How many changes are tried before an easy one is made that cannot fail."""


def describe(scene: Scene, rng: np.random.Generator, *, variant: str, full: bool) -> Statement:
    """Choose what a caption says about a scene.

    Args:
        scene: The scene.
        rng: Source of randomness.
        variant: ``grid`` names sizes and textures at times, ``plain`` never.
        full: Name colour, shape and place of every thing, and no relation.

    Returns:
        A statement that holds for the scene and names all its things.
    """
    things = [scene.things[int(i)] for i in rng.permutation(len(scene.things))]
    if full:
        return Statement(tuple(_full(thing) for thing in things))
    relation: str | None = None
    placed, style = rng.random(2).tolist()
    if len(things) > 1 and placed < 0.4:
        found = relations(things[0], things[1])
        relation = found[int(rng.integers(len(found)))]
    phrases = [_colored(thing, style) for thing in things]
    if relation is None and placed < 0.85:
        exact = rng.random() < 0.7
        phrases = [
            replace(phrase, place=_place(thing, rng, exact))
            for phrase, thing in zip(phrases, things, strict=True)
        ]
    if variant == "grid":
        phrases = [
            _detailed(phrase, thing, rng) for phrase, thing in zip(phrases, things, strict=True)
        ]
    return Statement(tuple(phrases), relation)


def _full(thing: Thing) -> Phrase:
    return Phrase(thing.color, thing.shape, place=(thing.row, thing.column))


def _colored(thing: Thing, style: float) -> Phrase:
    """Name colour and shape; or, at times, the shape alone, so that shapes are worth learning."""
    if style < 0.2:
        return Phrase(None, thing.shape)
    if style < 0.25:
        return Phrase(thing.color, None)
    return Phrase(thing.color, thing.shape)


def _place(thing: Thing, rng: np.random.Generator, exact: bool) -> Place:
    if exact:
        return thing.row, thing.column
    return (thing.row, None) if rng.random() < 0.5 else (None, thing.column)


def _detailed(phrase: Phrase, thing: Thing, rng: np.random.Generator) -> Phrase:
    sized, textured = rng.random(2).tolist()
    return replace(
        phrase,
        size=thing.size if sized < 0.5 else None,
        texture=thing.texture if textured < (0.7 if thing.texture else 0.2) else None,
    )


def falsify(
    statement: Statement,
    scene: Scene,
    rng: np.random.Generator,
    pool: tuple[Combination, ...],
    kept: tuple[Combination, ...] = (),
) -> Statement:
    """Change a true statement into a false one of the same form.

    Args:
        statement: Holds for the scene.
        scene: The scene.
        rng: Source of randomness.
        pool: Combinations that may be named.
        kept: Where the statement names one of these, so does the false one. With the unseen ones
            here, no caption is known to be true by naming one.

    Returns:
        A statement that does not hold for the scene: colours, shapes or places changed or swapped,
        or the relation turned round. Every combination in it is of the pool.
    """
    allowed = frozenset(pool)
    needed = frozenset(kept) if not _named(statement).isdisjoint(kept) else None
    for _ in range(TRIES):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        changed = _change(statement, change, rng)
        if changed is None or holds(changed, scene) or not _permitted(changed, allowed, needed):
            continue
        return changed
    return _fallback(statement, scene, rng, pool, needed)


def _named(statement: Statement) -> set[Combination]:
    return {
        (phrase.color, phrase.shape)
        for phrase in statement.phrases
        if phrase.color is not None and phrase.shape is not None
    }


def _permitted(
    statement: Statement, allowed: frozenset[Combination], needed: frozenset[Combination] | None
) -> bool:
    """Whether all combinations may be named, one that is needed is, and no two phrases agree."""
    named = _named(statement)
    full = [phrase for phrase in statement.phrases if None not in (phrase.color, phrase.shape)]
    places = [phrase.place for phrase in statement.phrases if None not in phrase.place]
    return (
        named <= allowed
        and (needed is None or not named.isdisjoint(needed))
        and len(named) == len(full)
        and len(set(places)) == len(places)
    )


def _change(statement: Statement, change: str, rng: np.random.Generator) -> Statement | None:
    phrases = list(statement.phrases)
    at = int(rng.integers(len(phrases)))
    phrase = phrases[at]
    if change == "relation":
        if statement.relation is None:
            return None
        return replace(statement, relation=INVERSE[statement.relation])
    if change == "swap":
        if len(phrases) < 2:
            return None
        other = (at + 1 + int(rng.integers(len(phrases) - 1))) % len(phrases)
        phrases[at], phrases[other] = _swapped(phrase, phrases[other], int(rng.integers(3)))
    elif change == "color" and phrase.color is not None:
        phrases[at] = replace(phrase, color=int(rng.integers(8)))
    elif change == "shape" and phrase.shape is not None:
        phrases[at] = replace(phrase, shape=int(rng.integers(6)))
    elif change == "place" and phrase.place != (None, None):
        row, column = rng.integers(3, size=2).tolist()
        phrases[at] = replace(
            phrase,
            place=(
                None if phrase.place[0] is None else row,
                None if phrase.place[1] is None else column,
            ),
        )
    else:
        return None
    return replace(statement, phrases=tuple(phrases))


def _swapped(first: Phrase, second: Phrase, what: int) -> tuple[Phrase, Phrase]:
    """Exchange colours, shapes or places."""
    if what == 0:
        return replace(first, color=second.color), replace(second, color=first.color)
    if what == 1:
        return replace(first, shape=second.shape), replace(second, shape=first.shape)
    return replace(first, place=second.place), replace(second, place=first.place)


def _fallback(
    statement: Statement,
    scene: Scene,
    rng: np.random.Generator,
    pool: tuple[Combination, ...],
    needed: frozenset[Combination] | None,
) -> Statement:
    """Name another combination for the first thing: with few things, one of the pool is absent."""
    first, *rest = statement.phrases
    for at in rng.permutation(len(pool)).tolist():
        color, shape = pool[at]
        changed = replace(
            first,
            color=None if first.color is None else color,
            shape=None if first.shape is None else shape,
        )
        candidate = replace(statement, phrases=(changed, *rest))
        if not holds(candidate, scene) and _permitted(candidate, frozenset(pool), needed):
            return candidate
    raise AssertionError(f"no false statement like {statement} within {len(pool)} combinations")
