"""Captions say what is true, near misses what is false, and both are put into words alike."""

from collections import Counter
from dataclasses import replace

import pytest

from flava_plugin.components.datasets.shapes_captions import describe, falsify
from flava_plugin.components.datasets.shapes_scene import (
    SEEN,
    UNSEEN,
    combinations,
    draw_scene,
    generator,
)
from flava_plugin.components.datasets.shapes_statements import (
    Phrase,
    Statement,
    Wording,
    draw_wording,
    holds,
    noun,
    relations,
    where,
    word,
)


def names_any(statement: Statement, combinations: tuple[tuple[int, int], ...]) -> bool:
    return any((phrase.color, phrase.shape) in combinations for phrase in statement.phrases)


@pytest.mark.parametrize("split", ["train", "publish"])
@pytest.mark.parametrize("variant", ["plain", "grid"])
def test_captions_are_true_and_near_misses_false(split: str, variant: str) -> None:
    pool = combinations(split, "none" if split == "train" else "some")
    kept = UNSEEN[split]
    changed: Counter[int] = Counter()
    for index in range(1000):
        rng = generator("pairs", split, 11, index)
        scene = draw_scene(rng, pool, variant=variant, first=kept)
        statement = describe(scene, rng, variant=variant, full=index % 4 == 0)
        assert holds(statement, scene)
        assert len(statement.phrases) == len(scene.things)
        false = falsify(statement, scene, rng, pool, kept)
        assert not holds(false, scene)
        assert names_any(false, kept) or not names_any(statement, kept)
        assert len(false.phrases) == len(statement.phrases)
        for phrase in false.phrases:
            assert None in (phrase.color, phrase.shape) or (phrase.color, phrase.shape) in pool
        wording = draw_wording(rng)
        true_text, false_text = word(statement, wording), word(false, wording)
        assert true_text != false_text
        differing = [a != b for a, b in zip(true_text.split(), false_text.split(), strict=False)]
        changed[sum(differing)] += 1
    assert changed[1] > 300  # many near misses differ in a single word


def test_a_swap_of_places_that_nobody_mentions_is_no_near_miss() -> None:
    """Of 'a and b' neither order nor place is claimed: only a change of what is named is false."""
    for index in range(400):
        rng = generator("pairs", "train", 12, index)
        scene = draw_scene(rng, SEEN, count=2)
        bare = Statement(tuple(Phrase(thing.color, thing.shape) for thing in scene.things))
        false = falsify(bare, scene, rng, SEEN)
        assert not holds(false, scene)
        named = {(phrase.color, phrase.shape) for phrase in false.phrases}
        assert named != {thing.combination for thing in scene.things}


def test_truth_of_hand_made_statements() -> None:
    scene = draw_scene(generator("pairs", "train", 0, 0), SEEN, count=2)
    first, second = (
        replace(scene.things[0], color=0, shape=0, row=0, column=0),
        replace(scene.things[1], color=2, shape=0, row=1, column=2),
    )
    scene = replace(scene, things=(first, second))
    assert relations(first, second) == ["left", "above"]
    red, blue, circle = Phrase(0, 0), Phrase(2, 0), Phrase(None, 0)
    for relation, truth in {"left": True, "above": True, "right": False, "below": False}.items():
        assert holds(Statement((red, blue), relation), scene) == truth
        assert holds(Statement((circle, circle), relation), scene)  # one of them is
    assert not holds(Statement((red, red)), scene)  # there is but one
    assert holds(Statement((circle, circle)), scene)
    assert not holds(Statement((circle, circle, circle)), scene)
    assert holds(Statement((replace(red, place=(0, None)),)), scene)
    assert not holds(Statement((replace(red, place=(None, 1)),)), scene)


def test_wording() -> None:
    red = Phrase(0, 0, place=(0, 0))
    orange = Phrase(5, None, place=(1, 1))
    assert noun(Phrase(5, 1, size=0, texture=1)) == "a small striped orange square"
    assert noun(orange) == "an orange object" and noun(Phrase(None, None)) == "an object"
    assert where((None, None)) == "" and where((1, None)) == "in the middle row"
    plain = Wording(0.0, 0.0, 0.0)
    assert word(Statement((red, orange)), plain) == (
        "a red circle in the top left and an orange object in the center"
    )
    three = Statement((Phrase(0, 0), Phrase(1, 1), Phrase(2, 2)), "left")
    assert word(three, Wording(0.99, 0.99, 0.99)) == (
        "to the left of a green square there is a red circle , there is a blue triangle"
    )
    assert word(replace(three, relation=None), Wording(0.5, 0.5, 0.5)).startswith("a picture of a")
