"""Losses against labels of the dataset: classes, soft targets, several labels at once, numbers.

Each counts every row, and gives the mean over rows of what it says for a row. Labels that do not
fit are named before they reach a kernel, which would end a GPU's process without saying which.

Legend for shapes: B rows, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin.schema import PositiveFloat, Share
from flava_plugin.types import Batch


class ClassCrossEntropy:
    """Cross entropy against a class number.

    Args:
        target: Its name in ``Sample.extra``.
        smoothing: Share of the target that is spread over all classes (torch's
            ``label_smoothing``).
    """

    def __init__(self, *, target: str, smoothing: Share = 0.0) -> None:
        self.target = target
        self.smoothing = smoothing
        self._classes: int | None = None

    def __call__(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Compute the loss of every row.

        Args:
            prediction: (B, C) logits.
            batch: With (B,) whole numbers from 0 to C - 1 as the label.

        Returns:
            (B,) fp32.

        Raises:
            ValueError: The label is missing, or no class; the first such row is named.
        """
        labels = _label("class_ce", self.target, batch)
        known, self._classes = self._classes, prediction.shape[1]
        if not labels.is_cuda or known != self._classes:  # else ``count`` has looked already
            self._check(labels)
        with torch.autocast(prediction.device.type, enabled=False):
            return F.cross_entropy(
                prediction.float(), labels, reduction="none", label_smoothing=self.smoothing
            )

    def count(self, batch: Batch) -> Tensor:
        """Count the rows, which are all of them; looks at labels before a GPU has them.

        Args:
            batch: Any batch.

        Returns:
            0-dim long.
        """
        labels = batch.extra.get(self.target)
        if labels is not None and self._classes is not None and not labels.is_cuda:
            self._check(labels)
        return torch.tensor(len(batch), device=batch.device)

    def _check(self, labels: Tensor) -> None:
        classes = self._classes
        if labels.dim() != 1 or labels.is_floating_point():
            raise ValueError(
                f"class_ce: label '{self.target}' is {_form(labels)}, not a class number for each "
                "row; take loss soft_ce or bce for a list, mse for a number"
            )
        wrong = ((labels < 0) | (labels >= (classes or 0))).nonzero().flatten().tolist()
        if wrong:
            raise ValueError(
                f"class_ce: row {wrong[0]} of the batch has {self.target} = "
                f"{int(labels[wrong[0]])}, and the head has the classes 0 to {(classes or 0) - 1} "
                f"({len(wrong)} of {len(labels)} rows are so); set the head's num_classes, or "
                "leave such rows out of the data"
            )


class SoftCrossEntropy:
    """Cross entropy against a share for each class: -sum of target times log softmax.

    Shares need not add up to 1: an answer that few annotators gave then weighs less.

    Args:
        target: Name of the shares in ``Sample.extra``.
    """

    def __init__(self, *, target: str) -> None:
        self.target = target

    def __call__(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Compute the loss of every row.

        Args:
            prediction: (B, C) logits.
            batch: With (B, C) shares as the label.

        Returns:
            (B,) fp32.
        """
        targets = _targets("soft_ce", self.target, prediction, batch)
        with torch.autocast(prediction.device.type, enabled=False):
            return -(targets * F.log_softmax(prediction.float(), dim=-1)).sum(-1)


class BinaryCrossEntropy:
    """A yes or no for each class, summed over classes, as VQA's answers are trained.

    The sum over classes and the mean over rows is MMF's ``logit_bce`` (``LogitBinaryCrossEntropy``:
    the mean times the number of answers) and ViLT's.

    Args:
        target: Name in ``Sample.extra`` of the targets: 0, 1 or between for each class.
    """

    def __init__(self, *, target: str) -> None:
        self.target = target

    def __call__(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Compute the loss of every row.

        Args:
            prediction: (B, C) logits.
            batch: With (B, C) targets, or (B,) where there is one class.

        Returns:
            (B,) fp32.
        """
        targets = _targets("bce", self.target, prediction, batch)
        with torch.autocast(prediction.device.type, enabled=False):
            losses = F.binary_cross_entropy_with_logits(
                prediction.float(), targets, reduction="none"
            )
        return losses.sum(-1)


class SquaredError:
    """Squared difference from a number, for regression (GLUE's STS-B).

    Args:
        target: Name of the number in ``Sample.extra``.
        scale: What the label is divided by; 5 brings STS-B to 0 to 1, as fairseq's preparation of
            GLUE does.
    """

    def __init__(self, *, target: str, scale: PositiveFloat = 1.0) -> None:
        self.target = target
        self.scale = scale

    def __call__(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Compute the loss of every row.

        Args:
            prediction: (B, 1), of a head with ``num_classes: 1``.
            batch: With a number as the label.

        Returns:
            (B,) fp32.

        Raises:
            ValueError: The label is missing or no number, or the head gives several.
        """
        labels = _label("mse", self.target, batch)
        if labels.dim() != 1 or prediction.shape != (len(labels), 1):
            raise ValueError(
                f"mse: label '{self.target}' is {_form(labels)} and the head gives "
                f"{prediction.shape[1]} numbers; both have to be one: set num_classes: 1"
            )
        if not labels.is_cuda and not bool(labels.isfinite().all()):
            row = int((~labels.isfinite()).nonzero()[0])
            raise ValueError(f"mse: row {row} of the batch has {self.target} = {labels[row]}")
        with torch.autocast(prediction.device.type, enabled=False):
            return (prediction.float().squeeze(1) - labels.float() / self.scale).square()


def _label(loss: str, target: str, batch: Batch) -> Tensor:
    if target not in batch.extra:
        known = ", ".join(sorted(batch.extra)) or "none"
        raise ValueError(f"{loss}: the dataset gives no label '{target}'; its labels: {known}")
    return batch.extra[target]


def _targets(
    loss: Literal["soft_ce", "bce"], target: str, prediction: Tensor, batch: Batch
) -> Tensor:
    """(B, C) fp32 targets, looked at on the CPU only: a GPU would have to be waited for."""
    labels = _label(loss, target, batch)
    if labels.dim() == 1 and prediction.shape[1] == 1:
        labels = labels[:, None]
    if labels.shape != prediction.shape:
        raise ValueError(
            f"{loss}: label '{target}' is {_form(labels)}, and the head gives "
            f"{prediction.shape[1]} logits; set num_classes to the length of the label"
        )
    targets = labels.float()
    if not targets.is_cuda:
        wrong = ~((targets >= 0) & (targets <= 1)).all(-1)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"{loss}: row {row} of the batch has a '{target}' outside of 0 to 1: "
                f"{targets[row].min():g} to {targets[row].max():g}"
            )
    return targets


def _form(labels: Tensor) -> str:
    kind = "numbers" if labels.is_floating_point() else "whole numbers"
    return (
        f"one of {kind} a row" if labels.dim() == 1 else f"{tuple(labels.shape[1:])} {kind} a row"
    )
