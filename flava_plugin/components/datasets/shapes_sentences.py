"""Sentences of the embedded data: redundant on purpose, so that hidden words can be inferred."""

from __future__ import annotations

import numpy as np

from flava_plugin.components.datasets.shapes_captions import describe
from flava_plugin.components.datasets.shapes_scene import COLORS, SEEN, SHAPES, draw_scene
from flava_plugin.components.datasets.shapes_statements import (
    INVERSE,
    RELATIONS,
    Phrase,
    choose,
    draw_wording,
    noun,
    relations,
    where,
    word,
)


def write_sentence(rng: np.random.Generator, variant: str) -> str:
    """Write a sentence about a scene that nobody draws.

    With bare captions a hidden colour could be any; here most words follow from others: a relation
    is said both ways, a thing is named twice, a place is said again.

    Args:
        rng: Source of randomness.
        variant: Of the scene.

    Returns:
        A sentence that names only seen combinations.
    """
    scene = draw_scene(rng, SEEN, variant=variant, count=2)
    first, second = scene.things
    if rng.random() < 0.2:
        return word(describe(scene, rng, variant=variant, full=False), draw_wording(rng))
    relation = choose(rng, relations(first, second))
    there, back = choose(rng, RELATIONS[relation]), choose(rng, RELATIONS[INVERSE[relation]])
    a, b = (Phrase(thing.color, thing.shape) for thing in (first, second))
    the_a, the_b = noun(a, "the"), noun(b, "the")
    place_a, place_b = (where((thing.row, thing.column)) for thing in (first, second))
    forms = [
        f"{noun(a)} is {there} {noun(b)} , so {the_b} is {back} {the_a}",
        f"if {noun(a)} is {there} {noun(b)} then {the_a} is not {back} {the_b}",
        f"{the_a} is {there} {the_b} because {the_b} is {back} {the_a}",
        f"{noun(a)} {place_a} and {noun(b)} {place_b} : {the_a} is {place_a}",
        f"{the_b} is {place_b} and {the_a} is {place_a} , so {the_a} is {there} {the_b}",
    ]
    if first.shape != second.shape:
        shape_a, shape_b = SHAPES[first.shape], SHAPES[second.shape]
        forms.append(
            f"there is {noun(a)} and {noun(b)} . the {shape_a} is {COLORS[first.color]} "
            f"and the {shape_b} is {COLORS[second.color]}"
        )
    return choose(rng, forms)
