"""Questions about pictures, answered by a head fitted to the frozen model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from flava_plugin.evaluate.attention_head import AttentionHead, States, fit_head
from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.samples import batches, keyed, open_dataset
from flava_plugin.evaluate.sharing import first, share
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
            right, truths = 0, list[str]()

            def judge(
                group: list[Sample], head: AttentionHead = head, answers: list[str] = answers
            ) -> tuple[list[str], list[str], list[float]]:
                shares = head(join([states_of(flava, group)])).softmax(-1)
                guesses = [answers[place] for place in shares.argmax(1).tolist()]
                return [self._answer(each) for each in group], guesses, shares.amax(1).tolist()

            groups = batches(self._asked(self.test, kind), flava.batch_size)
            for truth, guesses, shares in share(flava, groups, judge):
                if kind == self.kinds[0] and not truths:
                    shown = list(islice(self._asked(self.test, kind), 8))
                    self._show(shown, truth[:8], guesses[:8], shares[:8])
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
        for sample, right, said, sure in zip(asked, truth, guesses, shares, strict=True):
            answer = Cell(f"{said} {sure:.0%}", None, said == right)
            cells = [Cell("", sample.image), Cell(sample.text or ""), Cell(right), answer]
            self._shown.append(cells)

    def _fit(self, flava: Flava, kind: str) -> tuple[AttentionHead, list[str]]:
        def ready(group: list[Sample]) -> tuple[list[str], States]:
            return [self._answer(sample) for sample in group], states_of(flava, group)

        truth, states = list[str](), list[States]()
        for said, made in share(
            flava, batches(self._asked(self.train, kind), flava.batch_size), ready
        ):
            truth += said
            states.append(made)
        if not truth:
            raise ValueError(f"questions: none of kind '{kind}' to fit a head to; check kinds")
        answers = sorted(set(truth))
        labels = torch.tensor([answers.index(answer) for answer in truth])
        return first(flava, lambda: fit_head(join(states), labels, len(answers))), answers

    def _asked(self, dataset: Dataset, kind: str) -> Iterator[Sample]:
        for _, sample in keyed(dataset):
            if sample.extra[self.kind_field] == kind:
                yield sample

    def _answer(self, sample: Sample) -> str:
        return str(sample.extra[self.answer_field])


def states_of(flava: Flava, group: Sequence[Sample]) -> States:
    """Run pictures with questions through the frozen model.

    Args:
        flava: The model.
        group: Pictures with texts, no more than a batch.

    Returns:
        Their states on the CPU.
    """
    batch = flava.batch(group, "pair")
    assert batch.text_padding is not None
    states = flava.features(batch, "fused").float().cpu()
    words = batch.text_padding.cpu()
    first_token = states.shape[1] - words.shape[1]
    return States(states, pad(words, (first_token, 0), value=True), first_token)


def join(parts: Sequence[States]) -> States:
    """Put states together.

    Args:
        parts: At least one.

    Returns:
        All rows, padded to the longest question.
    """
    longest = max(part.present.shape[1] for part in parts)
    return States(
        torch.cat([pad(p.states, (0, 0, 0, longest - p.states.shape[1])) for p in parts]),
        torch.cat([pad(p.present, (0, longest - p.present.shape[1])) for p in parts]),
        parts[0].first_token,
    )
