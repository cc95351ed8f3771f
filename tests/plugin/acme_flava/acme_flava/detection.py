"""The loss of what patches say: focal for classes, generalised IoU for boxes, a number a picture.

Legend for shapes: B pictures, P patches, C classes, M places for things.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from acme_flava.grid import Grid, patch_centres
from flava_plugin import Batch
from flava_plugin.schema import NonNegative


def assign(side: int, boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Say which thing each patch answers for: the smallest one that its centre lies in.

    Args:
        side: Patches of a side of the grid.
        boxes: (B, M, 4).
        classes: (B, M), negative at places left over.

    Returns:
        (B, P) the place of its thing, and (B, P) bool whether it has one.
    """
    centres = patch_centres(side, boxes.device)[:, None]
    low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]
    inside = ((centres > low) & (centres < high)).all(-1) & (classes >= 0)[:, None]
    area = (high - low).prod(-1).expand_as(inside).masked_fill(~inside, torch.inf)
    smallest, place = area.min(-1)
    return place, smallest < torch.inf


def acme_detection(*, box_weight: NonNegative = 1.0) -> Callable[[Grid, Batch], Tensor]:
    """Focal loss of every patch's classes and generalised IoU of its box, for each picture.

    Each picture's sum is divided by its own number of patches on things, 1 at least, so that the
    loss of a picture is the same in whatever batch and on whatever rank it stands. Focal loss has
    RetinaNet's alpha 0.25 and gamma 2, torchvision's defaults.

    Args:
        box_weight: Of the boxes against the classes (FCOS: 1).

    Returns:
        A loss of a grid, (B,) fp32.
    """

    def loss(prediction: Grid, batch: Batch) -> Tensor:
        boxes, classes = batch.extra["boxes"], batch.extra["classes"]
        count = prediction.logits.shape[-1]
        if int(classes.max()) >= count:
            raise ValueError(
                f"acme_detection: class {int(classes.max())} is in the batch, and the head has the "
                f"classes 0 to {count - 1}; set the head's num_classes"
            )
        place, on = assign(math.isqrt(prediction.logits.shape[1]), boxes, classes)
        wanted = one_hot(classes.gather(1, place).clamp(min=0), count) * on[..., None]
        seen = sigmoid_focal_loss(prediction.logits.float(), wanted.float()).sum((1, 2))
        target = boxes.gather(1, place[..., None].expand(-1, -1, 4))
        apart = generalized_box_iou_loss(prediction.boxes.float(), target) * on
        return (seen + box_weight * apart.sum(1)) / on.sum(1).clamp(min=1)

    return loss
