"""Losses: prediction and Batch -> one number for each counted row.

What the learner asks of any loss, built-in or foreign:

- A call ``loss(prediction, batch)`` returns (N,) losses, one per counted row; the training step
  divides their sum by the count over all ranks and micro-batches.
- ``count(batch)``, if it has one, says N from the batch alone; without it N is the number of rows.
- ``scope = "global"`` where a row's loss depends on the other rows of the global batch. Such a loss
  is a module with a 0-dim parameter ``logit_scale`` and a method ``rows``; see
  ``GlobalContrastive``.

Legend for shapes: B rows, N counted rows, D width, V vocabulary, E projection width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects
from torch.utils.checkpoint import checkpoint

from flava_plugin.schema import Int, Share
from flava_plugin.types import Batch, MaskedPrediction, predicted_positions

RowLoss = Callable[[Tensor, Batch], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each row, in fp32 whatever the autocast.

    Args:
        logits: (N, V).
        labels: (N,) long.
        smoothing: Share of the target that is spread over all V.

    Returns:
        (N,) fp32.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)


class MaskedCrossEntropy:
    """Cross entropy at the predicted positions; a counted row is a position (paper section 3.2).

    Logits never stand whole in memory: beyond ``chunk`` positions they are computed piece by piece,
    and once more in the backward pass.

    Args:
        target: ``words`` or ``patches``, as the head predicts.
        chunk: Most positions decoded at once (1024 of 30,522 words: 125 MB in fp32).
    """

    def __init__(
        self,
        *,
        target: Literal["words", "patches"],
        chunk: Annotated[Int, Field(gt=0)] = 1024,
    ) -> None:
        self.target: Literal["words", "patches"] = target
        self.chunk = chunk

    def __call__(self, prediction: MaskedPrediction, batch: Batch) -> Tensor:
        """Compute the loss of every predicted position.

        Args:
            prediction: Of ``word_tokens`` or ``patch_tokens``.
            batch: Not read.

        Returns:
            (N,) fp32.
        """

        def decoded_loss(hidden: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(prediction.decode(hidden), labels)

        hidden, labels = prediction.hidden, prediction.labels
        if len(labels) <= self.chunk:
            return decoded_loss(hidden, labels)
        pieces = zip(torch.split(hidden, self.chunk), torch.split(labels, self.chunk), strict=True)
        return torch.cat(
            [checkpoint(decoded_loss, *piece, use_reentrant=False) for piece in pieces]
        )

    def count(self, batch: Batch) -> Tensor:
        """Count the predicted positions.

        Args:
            batch: Any batch.

        Returns:
            0-dim long.
        """
        return predicted_positions(batch, self.target).sum()


def matching_ce() -> RowLoss:
    """Cross entropy of matched against mismatched, over all pairs (ITM).

    Returns:
        A loss of (B, 2) logits.
    """

    def loss(prediction: Tensor, batch: Batch) -> Tensor:
        if batch.matched is None:
            raise ValueError(
                f"matching_ce needs 'matched', which a {batch.modality} batch does not have; give "
                "the objective modality: pair"
            )
        return cross_entropy(prediction, batch.matched.long())

    return loss


class GlobalContrastive(nn.Module):
    """Softmax contrastive loss between images and texts of the global batch (paper section 3.2).

    Rows of mismatched pairs are dropped, but their embeddings stay as negatives of the others, as
    in both public implementations. The logit scale is clamped after the optimiser step and not
    here, where a change would be lost on a sharded parameter and an evaluation would make one.

    Args:
        init_scale: First value of the log of the scale (torchmultimodal, CLIP: ln(1 / 0.07)).
        label_smoothing: Share of each row's target that is spread over all rows (ALIGN, arXiv
            2102.05918, section 5.1: 0.1).

    Attributes:
        scope: Tells the training step to gather the whole global batch.
    """

    scope = "global"

    def __init__(
        self, *, init_scale: float = math.log(1 / 0.07), label_smoothing: Share = 0.0
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.logit_scale = nn.Parameter(torch.tensor(float(init_scale)))

    def forward(self, prediction: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        """Compute the loss with one batch as the whole global batch.

        Args:
            prediction: (B, E) image and text projections.
            batch: ``positives`` says which rows count.

        Returns:
            (N,) fp32.
        """
        with torch.autocast(prediction[0].device.type, enabled=False):
            image, text = (F.normalize(side.float(), dim=-1) for side in prediction)
        return self.rows(image, text, image, text, 0, self._counted(batch, image))

    def rows(
        self,
        image_local: Tensor,
        text_local: Tensor,
        image_all: Tensor,
        text_all: Tensor,
        offset: int,
        positives_local: Tensor,
        *,
        log_scale: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of some rows of the global batch.

        Args:
            image_local: (B, E) L2-normalised embeddings of these rows' images.
            text_local: (B, E) of their texts.
            image_all: (G, E) of all images.
            text_all: (G, E) of all texts.
            offset: Where these rows start among all.
            positives_local: (B,) bool, the rows that count.
            log_scale: Log of the scale, if not the parameter itself.

        Returns:
            (N,) fp32, the mean of both directions.
        """
        with torch.autocast(image_local.device.type, enabled=False):
            scale = (self.logit_scale if log_scale is None else log_scale).float().exp()
            kept = positives_local.nonzero().squeeze(1)
            image = image_local.float().index_select(0, kept) @ text_all.float().T
            text = text_local.float().index_select(0, kept) @ image_all.float().T
            labels = kept + offset
            sides = (
                cross_entropy(scale * logits, labels, self.label_smoothing)
                for logits in (image, text)
            )
            return sum(sides, scale.new_zeros(())) / 2

    def count(self, batch: Batch) -> Tensor:
        """Count the rows with a loss.

        Args:
            batch: A pair batch.

        Returns:
            0-dim long.
        """
        assert batch.image is not None
        return self._counted(batch, batch.image).sum()

    @staticmethod
    def _counted(batch: Batch, like: Tensor) -> Tensor:
        if batch.positives is None:
            return torch.ones(len(batch), dtype=torch.bool, device=like.device)
        return batch.positives
