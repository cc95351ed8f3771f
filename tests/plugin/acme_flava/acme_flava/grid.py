"""What every patch says about the thing it lies on, and where boxes come from: FCOS on FLAVA.

FCOS (https://arxiv.org/abs/1904.01355) asks each place of a grid for the classes it sees and the
distances to the four sides of the thing around it. FLAVA's patches are such a grid.

Legend for shapes: B pictures, G patches a side, P = G * G patches, C classes, M places for things.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops import batched_nms

from flava_plugin import Batch, Features, Widths
from flava_plugin.schema import Int

RARE = 0.01
"""Share of patches on a thing that the head starts from, as RetinaNet's focal loss wants it."""


class Grid(NamedTuple):
    """What the patches say.

    Attributes:
        logits: (B, P, C), each class by itself.
        boxes: (B, P, 4) left, top, right, bottom as shares of the picture.
    """

    logits: Tensor
    boxes: Tensor


class GridDetector(nn.Module):
    """Finds things by the image encoder's patches, each with its classes and a box around it.

    Args:
        widths: Sizes of the backbone.
        num_classes: Number of classes C. Null: as many as the dataset has ``class_names``, which
            ``flava train`` writes into the recipe.
        hidden: Width of the hidden layer.

    Raises:
        ValueError: The number of classes is still not known, or patches make no square.
    """

    needs = frozenset({"image"})

    def __init__(
        self,
        widths: Widths,
        /,
        *,
        num_classes: Annotated[Int, Field(gt=0)] | None = None,
        hidden: Annotated[Int, Field(gt=0)] = 128,
    ) -> None:
        super().__init__()
        if num_classes is None:
            raise ValueError("num_classes is null, which 'flava train' counts; set it")
        self.side = math.isqrt(widths.patches)
        if self.side**2 != widths.patches:
            raise ValueError(f"{widths.patches} patches make no square grid")
        self.hidden = nn.Sequential(nn.Linear(widths.image, hidden), nn.GELU())
        self.classes = nn.Linear(hidden, num_classes)
        self.sides = nn.Linear(hidden, 4)
        nn.init.constant_(self.classes.bias, math.log(RARE / (1 - RARE)))

    def forward(self, features: Features, batch: Batch) -> Grid:
        """Look at every patch.

        Args:
            features: With ``image``.
            batch: Not read.

        Returns:
            What the patches say.
        """
        states = self.hidden(features.image[:, 1:])
        # exp keeps distances above zero; a first guess is one patch to each side
        apart = self.sides(states).float().clamp(max=6).exp() / self.side
        centres = patch_centres(self.side, states.device)
        boxes = torch.cat([centres - apart[..., :2], centres + apart[..., 2:]], dim=-1)
        return Grid(self.classes(states), boxes)


def patch_centres(side: int, device: torch.device) -> Tensor:
    """Say where patches are.

    Args:
        side: G.
        device: Where to.

    Returns:
        (P, 2) x and y of each centre as shares of the picture, row by row.
    """
    middle = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


class Found(NamedTuple):
    """What was found in a picture, the surest first.

    Attributes:
        boxes: (N, 4) as shares of the picture.
        scores: (N,) from 0 to 1.
        classes: (N,) class numbers.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def find(logits: Tensor, boxes: Tensor, *, least: float, overlap: float, most: int) -> Found:
    """Choose among what the patches of a picture say: of boxes on one another the surest.

    Args:
        logits: (P, C).
        boxes: (P, 4).
        least: Smallest score.
        overlap: IoU above which two boxes of a class are one thing.
        most: Most boxes.

    Returns:
        What is there.
    """
    scores = logits.float().sigmoid()
    patches, classes = (scores > least).nonzero(as_tuple=True)
    scores, boxes = scores[patches, classes], boxes[patches].clamp(0, 1)
    kept = batched_nms(boxes, scores, classes, overlap)[:most]
    return Found(boxes[kept], scores[kept], classes[kept])
