"""What a fine-tuned head says about a dataset, measured by the task's metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from flava_plugin.data.vqa_answers import vqa_accuracy
from flava_plugin.evaluate.metrics import Kind, Metric
from flava_plugin.evaluate.samples import batches, decoded, open_dataset, rows_of
from flava_plugin.evaluate.sharing import share
from flava_plugin.schema import Count, DatasetSpec
from flava_plugin.types import Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava

VQA = "vqa_accuracy"
"""The metric that reads answers instead of labels."""


def predictions(
    *,
    dataset: DatasetSpec,
    objective: str,
    label: str = "label",
    metrics: list[str] = ["accuracy"],  # noqa: B006 - read only, and a recipe shows it as a list
    split: str = "dev",
    count: Count | None = None,
    group_by: str | None = None,
) -> Predictions:
    """Measure the outputs of an objective's head.

    Args:
        dataset: Labelled samples.
        objective: The objective whose head is measured.
        label: Name in ``Sample.extra`` of the label: a class as a number, a list of numbers (labels
            of 0 and 1, or the soft scores of answers), or a number of a regression.
        metrics: ``accuracy``, ``mean_per_class``, ``f1``, ``accuracy_and_f1``, ``auroc``,
            ``matthews``, ``pearson``, ``spearman`` or ``vqa_accuracy``.
        split: Split of the dataset.
        count: Samples, the first ones of the dataset; null takes all.
        group_by: Name in ``Sample.extra`` by which every metric is also given, such as the kind of
            question.

    Returns:
        The task.
    """
    opened = open_dataset(dataset, split)
    return Predictions(opened, objective, label, metrics, count=count, group_by=group_by)


class Judged(NamedTuple):
    """What a head says about a batch.

    Attributes:
        outputs: (B, C), or (B,) numbers of a regression.
        labels: (B,) or (B, C).
        kind: What is predicted.
        groups: Rows by group; None for all of them.
        vqa: (B,) the VQA accuracy of each answer, or None.
    """

    outputs: Tensor
    labels: Tensor
    kind: Kind
    groups: list[tuple[str | None, list[int]]]
    vqa: Tensor | None


class Predictions:
    """The task of measuring a head.

    Args:
        dataset: Labelled samples; with ``answers`` and ``ten_answers(index)`` for the official VQA
            accuracy.
        objective: The head's objective.
        label: Name of the label in ``Sample.extra``.
        metrics: Names of metrics.
        count: Samples, the first ones; None takes all.
        group_by: Name in ``Sample.extra`` of a sample's group, or None.
    """

    def __init__(
        self,
        dataset: Any,
        objective: str,
        label: str,
        metrics: Sequence[str],
        *,
        count: int | None = None,
        group_by: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.objective = objective
        self.label = label
        self.metrics = list(metrics)
        self.count = count
        self.group_by = group_by

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Measure.

        Args:
            flava: The model.

        Returns:
            Each metric; ``accuracy_majority`` beside the accuracy of classes; ``<metric>_<group>``
            of every group; ``samples``. A metric that the data does not define is left out.

        Raises:
            ValueError: There is no such objective, label or metric, or no sample.
        """
        if self.objective not in flava.objectives:
            known = ", ".join(flava.objectives)
            raise ValueError(
                f"predictions: no objective '{self.objective}' in this run; it has {known}"
            )
        modality = flava.recipe.objectives[self.objective].modality
        found: dict[tuple[str, str | None], Metric | Mean] = {}
        truths: Counter[int] = Counter()
        total = 0

        def judge(rows: list[int]) -> Judged:
            samples = [sample for _, sample in decoded(self.dataset, rows)]
            batch = flava.batch(samples, modality)
            outputs = torch.as_tensor(flava.predict(self.objective, batch)).float().cpu()
            labels, kind = self._labels(rows, samples, outputs)
            if outputs.dim() == 2 and kind == "regression":
                outputs = outputs.squeeze(1)
            scores = self._vqa(rows, outputs, labels) if VQA in self.metrics else None
            return Judged(outputs, labels, kind, self._groups(samples), scores)

        groups = batches(rows_of(self.dataset, self.count), flava.batch_size)
        for outputs, labels, kind, parts, scores in share(flava, groups, judge):
            if kind == "class":
                truths.update(labels.tolist())
            for name in self.metrics:
                for part, rows in parts:
                    metric = found.get((name, part))
                    if metric is None:
                        classes = outputs.shape[1] if outputs.dim() == 2 else 1
                        metric = Mean() if name == VQA else Metric(name, kind, classes)
                        found[name, part] = metric
                    if isinstance(metric, Mean):
                        assert scores is not None
                        metric.update(scores[rows])
                    else:
                        metric.update(outputs[rows], labels[rows])
            total += len(labels)
        if not total:
            raise ValueError("predictions: the dataset is empty; check its path and split")
        figures: dict[str, float | int] = {}
        for (name, part), metric in sorted(found.items(), key=lambda item: str(item[0][1] or "")):
            value = metric.value()
            if not math.isnan(value):
                figures[name if part is None else f"{name}_{part}"] = value
            if name == "accuracy" and part is None and truths:
                figures["accuracy_majority"] = truths.most_common(1)[0][1] / total
        return {**figures, "samples": total}

    def _groups(self, samples: Sequence[Sample]) -> list[tuple[str | None, list[int]]]:
        groups: dict[str | None, list[int]] = {None: list(range(len(samples)))}
        if self.group_by is not None:
            for row, sample in enumerate(samples):
                groups.setdefault(str(sample.extra[self.group_by]), []).append(row)
        return list(groups.items())

    def _labels(
        self, indices: Sequence[int], samples: Sequence[Sample], outputs: Tensor
    ) -> tuple[Tensor, Kind]:
        for index, sample in zip(indices, samples, strict=True):
            if self.label not in sample.extra:
                known = ", ".join(sample.extra) or "none"
                raise ValueError(
                    f"predictions: sample {index} has no label '{self.label}'; it has {known}"
                )
        values = [sample.extra[self.label] for sample in samples]
        try:
            labels = torch.tensor(values)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"predictions: label '{self.label}' of samples {indices[0]} to {indices[-1]} is no "
                f"number or list of as many numbers in each: {error}"
            ) from error
        if labels.dim() == 2:
            if labels.shape != outputs.shape:
                raise ValueError(
                    f"predictions: label '{self.label}' has {labels.shape[1]} numbers a sample and "
                    f"the head of '{self.objective}' gives {tuple(outputs.shape[1:])}"
                )
            return labels, "multilabel"
        if labels.is_floating_point() or outputs.dim() == 1 or outputs.shape[1] == 1:
            return labels, "regression"
        wrong = ((labels < 0) | (labels >= outputs.shape[1])).nonzero().flatten().tolist()
        if wrong:
            raise ValueError(
                f"predictions: sample {indices[wrong[0]]} has {self.label} {values[wrong[0]]}, and "
                f"the head of '{self.objective}' knows classes 0 to {outputs.shape[1] - 1}"
            )
        return labels, "class"

    def _vqa(self, indices: Sequence[int], outputs: Tensor, labels: Tensor) -> Tensor:
        """Score the likeliest answers, by what ten people said where the dataset knows it."""
        best = outputs.argmax(1)
        if not hasattr(self.dataset, "ten_answers"):
            if labels.dim() != 2:
                raise ValueError(f"predictions: {VQA} wants the soft scores of answers as label")
            return labels.gather(1, best[:, None]).squeeze(1).double()
        said = [self.dataset.answers[place] for place in best.tolist()]
        scores = [
            vqa_accuracy(answer, self.dataset.ten_answers(index))
            for answer, index in zip(said, indices, strict=True)
        ]
        return torch.tensor(scores, dtype=torch.float64)


class Mean:
    """The mean of scores that come batch by batch."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.count = 0

    def update(self, scores: Tensor) -> None:
        """Take scores in.

        Args:
            scores: (B,).
        """
        self.sum += float(scores.double().sum())
        self.count += len(scores)

    def value(self) -> float:
        """The mean of everything taken in.

        Returns:
            The mean, NaN of nothing.
        """
        return self.sum / self.count if self.count else math.nan
