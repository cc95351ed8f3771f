"""The other streams of the embedded data: pictures, sentences, questions and hypotheses."""

from __future__ import annotations

from flava_plugin.components.datasets.shapes_questions import ANSWERS, KINDS, LABELS, ask, suppose
from flava_plugin.components.datasets.shapes_render import render
from flava_plugin.components.datasets.shapes_scene import COLORS, SHAPES
from flava_plugin.components.datasets.shapes_sentences import write_sentence
from flava_plugin.components.datasets.shapes_stream import Stream
from flava_plugin.types import Sample

CLASS_NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
TEMPLATES = ("a {}", "a picture of a {}", "there is a {}", "we see a {}", "a {} in the center")


class Images:
    """Pictures without text; those of a single thing bear labels.

    Args:
        stream: Which scenes.
    """

    class_names = CLASS_NAMES
    templates = TEMPLATES

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return self.stream.size

    def read(self, index: int, /) -> Sample:
        """Make a picture.

        Args:
            index: Of the picture.

        Returns:
            The picture; where every picture shows one thing, ``extra`` has ``class``, ``color``
            and ``shape``, indices of ``CLASS_NAMES``, ``COLORS`` and ``SHAPES``.
        """
        scene = self.stream.draw(self.stream.generator(index))
        extra = {}
        if self.stream.objects == 1:
            color, shape = scene.things[0].combination
            extra = {"class": color * len(SHAPES) + shape, "color": color, "shape": shape}
        return Sample(image=render(scene), extra=extra)


class Sentences:
    """Sentences without pictures, of seen combinations only.

    Args:
        stream: Seed, split and variant.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return self.stream.size

    def read(self, index: int, /) -> Sample:
        """Make a sentence.

        Args:
            index: Of the sentence.

        Returns:
            The sentence.
        """
        return Sample(text=write_sentence(self.stream.generator(index), self.stream.variant))


class Questions:
    """Pictures with questions.

    Args:
        stream: Which scenes.
        kind: A key of ``KINDS``, or None for all, each as often.
    """

    answers = ANSWERS
    kinds = KINDS

    def __init__(self, stream: Stream, kind: str | None) -> None:
        self.stream = stream
        self.kind = kind

    def __len__(self) -> int:
        return self.stream.size

    def read(self, index: int, /) -> Sample:
        """Make a question.

        Args:
            index: Of the question.

        Returns:
            Picture and question; ``extra`` has ``answer`` and ``kind`` as indices of ``answers``
            and ``kinds``, and both as words in ``answer_name`` and ``kind_name``.
        """
        rng = self.stream.generator(index)
        kind = self.kind or KINDS[int(rng.integers(len(KINDS)))]
        question = None
        while question is None:
            scene = self.stream.draw(rng)
            question = ask(scene, rng, self.stream.pool, kind)
        extra = {
            "answer": question.answer,
            "kind": question.kind,
            "answer_name": ANSWERS[question.answer],
            "kind_name": kind,
        }
        return Sample(image=render(scene), text=question.text, extra=extra)


class Entailment:
    """Pictures with hypotheses about them.

    Args:
        stream: Which scenes.
    """

    class_names = LABELS

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return self.stream.size

    def read(self, index: int, /) -> Sample:
        """Make a hypothesis.

        Args:
            index: Of the hypothesis.

        Returns:
            Picture and hypothesis; ``extra`` has ``label``: 0 entailment, 1 neutral,
            2 contradiction.
        """
        rng = self.stream.generator(index)
        scene = self.stream.draw(rng)
        text, label = suppose(scene, rng, self.stream.pool, self.stream.variant)
        return Sample(image=render(scene), text=text, extra={"label": label})
