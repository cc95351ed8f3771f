"""The mean over classes of the average precision of boxes, at one overlap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from torchvision.ops import box_iou

from acme_flava.grid import Found


class Truth(NamedTuple):
    """What is in a picture.

    Attributes:
        boxes: (M, 4) as shares of the picture.
        classes: (M,) class numbers.
    """

    boxes: Tensor
    classes: Tensor


def hits(found: Found, truth: Truth, overlap: float) -> Tensor:
    """Match boxes to things, the surest first, each thing once (Pascal VOC's rule).

    Args:
        found: N boxes, the surest first.
        truth: M things.
        overlap: Smallest IoU of a match.

    Returns:
        (N,) bool.
    """
    right = torch.zeros(len(found.scores), dtype=torch.bool)
    if not len(truth.classes):
        return right
    overlaps = box_iou(found.boxes, truth.boxes)
    overlaps[found.classes[:, None] != truth.classes] = 0
    for row, values in enumerate(overlaps):
        best = int(values.argmax())
        if values[best] >= overlap:
            right[row] = True
            overlaps[:, best] = 0
    return right


def mean_average_precision(
    pictures: Iterable[tuple[Found, Truth]], classes: int, overlap: float
) -> float:
    """Measure boxes.

    It is the area under the steps of precision over recall, without Pascal's and COCO's
    interpolation. scikit-learn's counts only what was found; what was not costs its share here.

    Args:
        pictures: What was found and what is there.
        classes: C.
        overlap: Smallest IoU of a match.

    Returns:
        The mean over classes that are there; NaN where nothing is.
    """
    right: list[Tensor] = []
    scores: list[Tensor] = []
    kinds: list[Tensor] = []
    there = torch.zeros(classes, dtype=torch.long)
    for found, truth in pictures:
        right.append(hits(found, truth, overlap))
        scores.append(found.scores)
        kinds.append(found.classes)
        there += truth.classes.bincount(minlength=classes)
    figures = []
    for number in there.nonzero().flatten().tolist():
        own = torch.cat(kinds) == number
        hit = torch.cat(right)[own]
        precision = float(average_precision_score(hit, torch.cat(scores)[own])) if hit.any() else 0
        figures.append(precision * int(hit.sum()) / int(there[number]))
    return float(np.mean(figures)) if figures else float("nan")
