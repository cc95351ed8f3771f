"""VQAv2: pictures of COCO with questions and ten people's answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.answers import SEEN, frequent_answers, plain_answer, soft_targets
from flava_plugin.data.class_labels import read_names
from flava_plugin.data.columns import Records
from flava_plugin.data.labelled_rows import LabelledRow, LabelledRows, collect
from flava_plugin.data.layouts.json_files import load
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.schema import InputPath, Positive, Share
from flava_plugin.types import Sample

VqaSplit = Literal["train", "val", "dev", "trainval", "test", "test-dev"]
_PARTS: dict[str, tuple[str, ...]] = {
    "train": ("train2014",),
    "val": ("val2014",),
    "dev": ("val2014",),
    "trainval": ("train2014", "val2014"),
    "test": ("test2015",),
    "test-dev": ("test-dev2015",),
}


def vqav2(
    *,
    path: InputPath,
    images: InputPath | None = None,
    split: VqaSplit = "train",
    answers: InputPath | None = None,
    seen: Positive = SEEN,
    vocabulary_of: Literal["train", "trainval"] = "trainval",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Questions:
    """VQAv2 (Goyal et al. 2017), answered by choosing among frequent answers.

    Read are ``v2_OpenEnded_mscoco_train2014_questions.json`` and
    ``v2_mscoco_train2014_annotations.json``, and so on. A question none of whose answers is in the
    vocabulary stays, with scores of 0: the metric counts it. Test-dev is scored by a server alone;
    ``val`` (or ``dev``) is what can be measured here.

    Args:
        path: Folder of the questions and annotations.
        images: Folder above ``train2014``, ``val2014`` and ``test2015``, or of all pictures; null
            takes ``path``.
        split: The split; the tests have no answers.
        answers: File of the vocabulary, one answer a line; null builds it.
        seen: How many questions an answer has to occur in to be in the built vocabulary.
        vocabulary_of: What it is built of; 3,129 answers are usual, of train and val.
        missing: A question whose picture is not there: ``drop`` leaves it out and counts it,
            ``keep`` replaces it when it is read, against ``data.bad_samples``.
        broken_lines: Share of questions that may be broken; ten may be anyway.

    Returns:
        The dataset; ``extra`` has ``question_id`` and, but for the tests, ``answers``: the score of
        each of the vocabulary.

    Raises:
        ValueError: A file is missing or another, questions and annotations differ, or no question
            is left.
    """
    if answers is not None:
        vocabulary = read_names(answers)
    else:
        vocabulary = frequent_answers(_main_answers(path, vocabulary_of), seen)
        if not vocabulary:
            raise ValueError(f"{path}: no answer occurs in {seen} questions; lower seen:")
    numbers: dict[str, int] = {}
    for number, answer in enumerate(vocabulary):  # of answers that are alike the first counts
        numbers.setdefault(plain_answer(answer), number)
    ten: list[list[str]] = []
    rows = collect(
        _rows(path, _PARTS[split], numbers),
        images or path,
        what=f"{path} ({split})",
        missing=missing,
        broken_lines=broken_lines,
        widths={"answers": len(vocabulary)},
        then=lambda row: ten.append(row.aside or []),
    )
    return Questions(rows, vocabulary, ten)


class Questions:
    """Questions of a split.

    Args:
        rows: Pictures, questions, scores.
        answers: The vocabulary.
        ten: What each annotator answered, for each question; empty lists in the tests.
    """

    kind = "pair"

    def __init__(
        self, rows: LabelledRows, answers: Sequence[str], ten: Sequence[Sequence[str]]
    ) -> None:
        self.rows = rows
        self.answers = list(answers)
        self.class_names = tuple(answers)
        self.coverage = rows.coverage
        self._ten = Records(ten)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """16 hex digits; they change with questions, scores and pictures' names."""
        return self.rows.fingerprint

    def read(self, index: int, /) -> Sample:
        """Read a question; its picture is decoded where it is used.

        Args:
            index: Of the question.

        Returns:
            Picture and question, with the scores of answers.

        Raises:
            OSError: The file is no picture.
            DamagedSampleError: It is not there.
        """
        return self.rows.read(index)

    def read_text(self, index: int, /) -> str | None:
        """Read a question alone.

        Args:
            index: Of the question.

        Returns:
            The question.
        """
        return self.rows.read_text(index)

    def text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Measure questions, for batches of like lengths.

        Args:
            indices: Of questions.

        Returns:
            Bytes of each.
        """
        return self.rows.text_sizes(indices)

    def ten_answers(self, index: int, /) -> list[str]:
        """Give what people answered, for the official accuracy.

        Args:
            index: Of the question.

        Returns:
            Their answers as they wrote them, ten in VQAv2; none in the tests.
        """
        found: list[str] = self._ten.at(range(len(self))[index])
        return found


def _rows(
    path: Path, parts: Sequence[str], numbers: dict[str, int]
) -> Iterator[LabelledRow | Dropped]:
    for part in parts:
        file = path / f"v2_OpenEnded_mscoco_{part}_questions.json"
        folder = part.replace("-dev", "")
        given = None if part.startswith("test") else _annotations(path, part)
        for number, row in enumerate(_list(file, "questions")):
            where = f"{file}: question {number}"
            question, picture, key = (
                row.get(name) if isinstance(row, dict) else None
                for name in ("question", "image_id", "question_id")
            )
            if not (isinstance(question, str) and _whole(picture) and _whole(key)):
                yield Dropped(
                    "broken line", f"{where} lacks 'question', 'image_id' or 'question_id'"
                )
                continue
            name = f"COCO_{folder}_{picture:012d}.jpg"
            labels: dict[str, Any] = {"question_id": key}
            said: list[str] = []
            if given is not None:
                if key not in given:
                    yield Dropped("no label", f"{where}: {key} is in no annotation")
                    continue
                try:
                    said = [str(answer["answer"]) for answer in given[key]["answers"]]
                except (KeyError, TypeError):
                    said = []
                if not said:
                    yield Dropped("broken line", f"{where}: annotation of {key} has no answers")
                    continue
                labels["answers"] = soft_targets(said, numbers)
            yield LabelledRow(
                where, question, None, f"{folder}/{name}", (name,), labels=labels, aside=said
            )


def _annotations(path: Path, part: str) -> dict[int, Any]:
    rows = _list(path / f"v2_mscoco_{part}_annotations.json", "annotations")
    return {
        row["question_id"]: row for row in rows if isinstance(row, dict) and "question_id" in row
    }


def _main_answers(path: Path, vocabulary_of: str) -> Iterator[str]:
    for part in _PARTS[vocabulary_of]:
        file = path / f"v2_mscoco_{part}_annotations.json"
        if not file.is_file():
            raise ValueError(
                f"{file}: no such file, which the vocabulary of answers is built of; put it there, "
                "name a file of answers (answers:), or say vocabulary_of: train"
            )
        for row in _list(file, "annotations"):
            answer = row.get("multiple_choice_answer") if isinstance(row, dict) else None
            if isinstance(answer, str):
                yield answer


def _list(file: Path, key: str) -> list[Any]:
    data = load(file)
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise ValueError(f"{file}: no list '{key}'; is it VQAv2's file of {key}?")
    return found


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
