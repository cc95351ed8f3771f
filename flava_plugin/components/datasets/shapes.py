"""The embedded data ``shapes``: coloured shapes on a dark ground, with captions, without files.

Every sample is a function of (seed, split, index). Of the 48 combinations of colour and shape, 36
are seen in training; six are kept for the ``dev`` split and six others for the ``publish`` split.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flava_plugin.components.datasets.shapes_pairs import Pairs
from flava_plugin.components.datasets.shapes_scene import SEEN, Split, Unseen, Variant
from flava_plugin.components.datasets.shapes_stream import Stream, open_stream
from flava_plugin.components.datasets.shapes_streams import (
    Entailment,
    Images,
    Questions,
    Sentences,
)
from flava_plugin.schema import Int

Size = Annotated[Int, Field(gt=0)]
Seed = Annotated[Int, Field(ge=0)]
Things = Annotated[Int, Field(ge=1, le=3)]
Kind = Literal["color", "shape", "count", "existence", "relation"]


def shapes_pairs(
    *,
    split: Split = "train",
    size: Size = 200_000,
    seed: Seed = 0,
    variant: Variant = "plain",
    unseen: Unseen | None = None,
    objects: Things | None = None,
    full_captions: bool = False,
    distinct: bool = False,
) -> Pairs:
    """Pictures with captions, each with a close caption that is false.

    Args:
        split: ``train``, ``dev`` to choose settings on, or ``publish`` for figures.
        size: Number of pairs.
        seed: Of all randomness.
        variant: ``plain``: things differ in colour, shape and place; ``grid``: in size and texture
            too, and captions name them at times (harder).
        unseen: Which pictures hold combinations never seen in training: ``none``; ``some``: one
            thing at least; ``all``: only such. Null: ``some`` in ``dev`` and ``publish``.
        objects: Number of things; null for one to three.
        full_captions: Captions name colour, shape and place of everything.
        distinct: No two captions are equal; with ``full_captions`` none is true of another picture
            either, so that a gallery has one right answer.

    Returns:
        The dataset.
    """
    stream = open_stream("pairs", split, size, seed, variant, unseen=unseen, objects=objects)
    return Pairs(stream, full=full_captions, distinct=distinct)


def shapes_images(
    *,
    split: Split = "train",
    size: Size = 200_000,
    seed: Seed = 0,
    variant: Variant = "plain",
    unseen: Unseen | None = None,
    objects: Things | None = None,
) -> Images:
    """Pictures alone; with ``objects: 1`` they bear the labels ``class``, ``color`` and ``shape``.

    Args:
        split: ``train``, ``dev`` or ``publish``.
        size: Number of pictures.
        seed: Of all randomness.
        variant: ``plain`` or ``grid``.
        unseen: As in ``shapes_pairs``.
        objects: Number of things; null for one to three.

    Returns:
        The dataset, with ``class_names`` (all 48 combinations) and ``templates`` of prompts.
    """
    return Images(open_stream("images", split, size, seed, variant, unseen=unseen, objects=objects))


def shapes_sentences(
    *,
    split: Split = "train",
    size: Size = 200_000,
    seed: Seed = 0,
    variant: Variant = "plain",
) -> Sentences:
    """Sentences alone, of seen combinations in every split.

    Args:
        split: ``train``, ``dev`` or ``publish``.
        size: Number of sentences.
        seed: Of all randomness.
        variant: ``plain`` or ``grid``.

    Returns:
        The dataset.
    """
    return Sentences(Stream("sentences", split, size, seed, variant, SEEN))


def shapes_questions(
    *,
    split: Split = "train",
    size: Size = 200_000,
    seed: Seed = 0,
    variant: Variant = "plain",
    unseen: Unseen | None = None,
    kind: Kind | None = None,
) -> Questions:
    """Pictures with questions: colour, shape, count, and yes or no on existence and relation.

    Args:
        split: ``train``, ``dev`` or ``publish``.
        size: Number of questions.
        seed: Of all randomness.
        variant: ``plain`` or ``grid``.
        unseen: As in ``shapes_pairs``.
        kind: Ask only this; null asks all kinds, each as often.

    Returns:
        The dataset, with ``answers`` and ``kinds``.
    """
    return Questions(open_stream("questions", split, size, seed, variant, unseen=unseen), kind)


def shapes_entailment(
    *,
    split: Split = "train",
    size: Size = 200_000,
    seed: Seed = 0,
    variant: Variant = "plain",
    unseen: Unseen | None = None,
) -> Entailment:
    """Pictures with hypotheses, labelled entailment, neutral or contradiction.

    Args:
        split: ``train``, ``dev`` or ``publish``.
        size: Number of hypotheses.
        seed: Of all randomness.
        variant: ``plain`` or ``grid``.
        unseen: As in ``shapes_pairs``.

    Returns:
        The dataset, with ``class_names``.
    """
    return Entailment(open_stream("entailment", split, size, seed, variant, unseen=unseen))
