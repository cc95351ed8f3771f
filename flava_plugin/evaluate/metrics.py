"""The one door to torchmetrics: metrics by name, fed batch by batch.

Which metric belongs to which task is in ``paper_tasks.py``.

Legend for shapes: B rows, C classes or labels.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["class", "multilabel", "regression"]
"""One class of C; any of C labels, each 0 or 1; a number."""

NAMES: dict[Kind, tuple[str, ...]] = {
    "class": ("accuracy", "mean_per_class", "f1", "accuracy_and_f1", "auroc", "matthews"),
    "multilabel": ("accuracy", "f1", "auroc"),
    "regression": ("pearson", "spearman"),
}
"""Metrics by what is predicted. Of two classes, ``f1`` and ``auroc`` are those of class 1;
``accuracy_and_f1`` is their mean (GLUE's rule for MRPC and QQP)."""

TWO_CLASSES = frozenset({"f1", "accuracy_and_f1", "auroc"})
"""Metrics of a ``class`` prediction that are defined for two classes only."""

RANKED = frozenset({"auroc", "pearson", "spearman"})
"""Metrics that are not defined where all labels are the same."""


class Metric:
    """One metric over everything it was fed.

    Args:
        name: One of ``NAMES`` of the kind.
        kind: What is predicted.
        classes: C; 1 for a regression.

    Raises:
        ValueError: There is no such metric of this kind, or it wants two classes.
    """

    def __init__(self, name: str, kind: Kind, classes: int) -> None:
        if name not in NAMES[kind]:
            known = ", ".join(NAMES[kind])
            raise ValueError(f"metrics: no '{name}' for a {kind} prediction; known: {known}")
        if kind == "class" and name in TWO_CLASSES and classes != 2:
            raise ValueError(f"metrics: '{name}' is for two classes, and there are {classes}")
        self.name = name
        self.kind = kind
        self.classes = classes
        self._parts = [_build(part, kind, classes) for part in parts_of(name)]
        self._labels: set[float] = set()  # some of the labels so far: enough to see if they differ
        self._said: set[float] = set()  # the same of the predictions of a regression

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Take a batch in.

        Args:
            predictions: (B, C) logits, or (B,) numbers of a regression.
            labels: (B,) class numbers, (B, C) of 0 and 1, or (B,) numbers.
        """
        if self.kind != "multilabel":
            self._labels.update(_some(labels))
        if self.kind == "regression":
            predictions, labels = predictions.double(), labels.double()
            self._said.update(_some(predictions))
        elif self.kind == "multilabel":
            predictions, labels = predictions.float().sigmoid(), labels.long()
        for part, name in zip(self._parts, parts_of(self.name), strict=True):
            given = predictions
            if self.kind == "class":
                ranked = name == "auroc"
                given = predictions.float().softmax(1)[:, 1] if ranked else predictions.argmax(1)
            part.update(given, labels)

    def value(self) -> float:
        """The metric of everything fed so far; NaN where it is not defined.

        Returns:
            The figure.
        """
        found = []
        for part, name in zip(self._parts, parts_of(self.name), strict=True):
            if self.kind != "multilabel" and name in RANKED and len(self._labels) < 2:
                return math.nan
            if self.kind == "regression" and len(self._said) < 2:
                return 0.0  # what is always the same tells nothing of the order
            computed = part.compute()
            if name == "mean_per_class":
                # A class that nothing belongs to has no accuracy: torchmetrics' macro average
                # would count one that was predicted by mistake as 0.
                there = computed[:, 4] > 0
                computed = (computed[there, 0] / computed[there, 4]).double().mean()
            elif name == "matthews" and _one_sided(part.confmat):
                # It is not defined, and 0 by scikit-learn's rule, which GLUE goes by; torchmetrics
                # gives what is left of a division by almost nothing.
                computed = 0.0
            found.append(float(computed))
        return sum(found) / len(found)


def parts_of(name: str) -> tuple[str, ...]:
    """Take a metric apart into those it is the mean of.

    Args:
        name: A metric.

    Returns:
        Itself, or its parts.
    """
    return ("accuracy", "f1") if name == "accuracy_and_f1" else (name,)


def _some(values: Tensor) -> list[float]:
    """Two of the different values, or the only one; NaN differs from NaN."""
    found: list[float] = np.unique(values.cpu().numpy(), equal_nan=False)[:2].tolist()
    return found


def _one_sided(counts: Tensor) -> bool:
    """Whether all rows are of one class, or all predictions, by the (C, C) confusion matrix."""
    return min(int((counts.sum(axis) > 0).sum()) for axis in (0, 1)) < 2


def _build(name: str, kind: Kind, classes: int) -> Any:
    try:
        import torchmetrics as tm
    except ImportError as error:
        raise ValueError(
            "metrics come from torchmetrics; install it: pip install 'flava-plugin[eval]'"
        ) from error
    # Every rank is fed everything here; left alone, compute would wait for the other ranks and
    # count their rows again.
    alone: dict[str, Any] = {"sync_on_compute": False}
    if kind == "regression":
        return tm.PearsonCorrCoef(**alone) if name == "pearson" else tm.SpearmanCorrCoef(**alone)
    if kind == "multilabel":
        if name == "accuracy":  # of the single decisions, as torchmetrics' micro average
            return tm.classification.MultilabelAccuracy(classes, average="micro", **alone)
        if name == "f1":
            return tm.classification.MultilabelF1Score(classes, average="micro", **alone)
        return tm.classification.MultilabelAUROC(classes, average="macro", **alone)
    if name == "accuracy":
        # its default is the mean over classes
        return tm.classification.MulticlassAccuracy(classes, average="micro", **alone)
    if name == "mean_per_class":
        return tm.classification.MulticlassStatScores(classes, average=None, **alone)
    if name == "matthews":
        return tm.classification.MulticlassMatthewsCorrCoef(classes, **alone)
    if name == "f1":
        return tm.classification.BinaryF1Score(**alone)
    return tm.classification.BinaryAUROC(**alone)


def measure(name: str, kind: Kind, predictions: Tensor, labels: Tensor) -> float:
    """Compute a metric of predictions that are all there.

    Args:
        name: One of ``NAMES``.
        kind: What is predicted.
        predictions: (N, C) logits, or (N,) numbers.
        labels: As ``Metric.update`` takes them.

    Returns:
        The figure.
    """
    classes = predictions.shape[1] if predictions.dim() == 2 else 1
    metric = Metric(name, kind, classes)
    metric.update(predictions, torch.as_tensor(labels))
    return metric.value()
