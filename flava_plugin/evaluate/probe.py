"""Questions about pictures, answered by a head fitted to the frozen model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from flava_plugin.evaluate.attention_head import AttentionHead, States, fit_head
from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.samples import batches, keyed, open_dataset
from flava_plugin.schema import DatasetSpec
from flava_plugin.types import Dataset, Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava


def questions(
    *,
    dataset: DatasetSpec,
    train: DatasetSpec | None = None,
    split: str = "dev",
    train_split: str = "train",
    kinds: list[str] = ["color"],  # noqa: B006 - read only, and a recipe shows it as a list
    kind: str = "kind_name",
    answer: str = "answer_name",
) -> Questions:
    """Measure accuracy by kind of question; the model itself is not trained.

    Args:
        dataset: Pictures with questions, to be asked.
        train: The same to fit the head to; None takes ``dataset`` at ``train_split``.
        split: Split of the questions that are asked.
        train_split: Split of the questions the head is fitted to.
        kinds: Kinds of question, a head each.
        kind: Name in ``Sample.extra`` of the kind of question.
        answer: Name in ``Sample.extra`` of the answer.

    Returns:
        The task.
    """
    fitted, asked = open_dataset(train or dataset, train_split), open_dataset(dataset, split)
    return Questions(fitted, asked, kinds, (kind, answer))


class Questions:
    """The task of answering questions.

    Args:
        train: Questions the head is fitted to.
        test: Questions that are asked.
        kinds: Kinds of question.
        fields: Names in ``Sample.extra`` of the kind and of the answer.
    """

    def __init__(
        self,
        train: Dataset,
        test: Dataset,
        kinds: Sequence[str],
        fields: tuple[str, str],
    ) -> None:
        self.train = train
        self.test = test
        self.kinds = list(kinds)
        self.kind_field, self.answer_field = fields
        self._shown: list[list[Cell]] = []

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Fit and measure.

        Args:
            flava: The model.

        Returns:
            Accuracy by kind, and ``<kind>_majority``, the share of the most frequent answer among
            those that were asked for.

        Raises:
            ValueError: A split has no question of a kind.
        """
        figures: dict[str, float | int] = {}
        self._shown = []
        for kind in self.kinds:
            head, answers = self._fit(flava, kind)
            right, truths = 0, []
            for group in batches(self._asked(self.test, kind), flava.batch_size):
                truth = [self._answer(sample) for sample in group]
                shares = head(fused_states(flava, [group])).softmax(-1)
                guesses = [answers[place] for place in shares.argmax(1).tolist()]
                if kind == self.kinds[0]:
                    self._show(group, truth, guesses, shares.amax(1).tolist())
                right += sum(g == t for g, t in zip(guesses, truth, strict=True))
                truths += truth
            if not truths:
                raise ValueError(f"questions: none of kind '{kind}' to ask; check kinds")
            figures[kind] = right / len(truths)
            figures[f"{kind}_majority"] = Counter(truths).most_common(1)[0][1] / len(truths)
        return figures

    def exhibits(self, flava: Flava) -> list[Exhibit]:
        """Show a few questions of the first kind as they were answered last.

        Args:
            flava: The model; asked only if no questions were asked before.

        Returns:
            One exhibit of eight questions.
        """
        if not self._shown:
            self(flava)
        note = "A head of one attention layer, fitted to the frozen multimodal encoder, answers."
        columns = ("picture", "question", "answer", "the head says")
        return [Exhibit("Questions", note, columns, self._shown)]

    def _show(
        self, asked: list[Sample], truth: list[str], guesses: list[str], shares: list[float]
    ) -> None:
        for sample, right, said, share in zip(asked, truth, guesses, shares, strict=True):
            if len(self._shown) < 8:
                answer = Cell(f"{said} {share:.0%}", None, said == right)
                cells = [Cell("", sample.image), Cell(sample.text or ""), Cell(right), answer]
                self._shown.append(cells)

    def _fit(self, flava: Flava, kind: str) -> tuple[AttentionHead, list[str]]:
        groups = list(batches(self._asked(self.train, kind), flava.batch_size))
        truth = [self._answer(sample) for group in groups for sample in group]
        if not truth:
            raise ValueError(f"questions: none of kind '{kind}' to fit a head to; check kinds")
        answers = sorted(set(truth))
        labels = torch.tensor([answers.index(answer) for answer in truth])
        return fit_head(fused_states(flava, groups), labels, len(answers)), answers

    def _asked(self, dataset: Dataset, kind: str) -> Iterator[Sample]:
        for _, sample in keyed(dataset):
            if sample.extra[self.kind_field] == kind:
                yield sample

    def _answer(self, sample: Sample) -> str:
        return str(sample.extra[self.answer_field])


def fused_states(flava: Flava, groups: Sequence[Sequence[Sample]]) -> States:
    """Run pictures with questions through the frozen model.

    Args:
        flava: The model.
        groups: N pictures with texts, in batches.

    Returns:
        States of all N on the CPU, padded to the longest question.
    """
    states, padding = [], []
    first = 0
    for group in groups:
        batch = flava.batch(group, "pair")
        assert batch.text_padding is not None
        states.append(flava.features(batch, "fused").float().cpu())
        padding.append(batch.text_padding.cpu())
        first = states[-1].shape[1] - padding[-1].shape[1]
    longest = max(each.shape[1] for each in padding)
    present = [pad(each, (first, 0), value=True) for each in padding]
    return States(
        torch.cat([pad(x, (0, 0, 0, first + longest - x.shape[1])) for x in states]),
        torch.cat([pad(x, (0, first + longest - x.shape[1])) for x in present]),
        first,
    )
