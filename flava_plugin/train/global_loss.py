"""A loss over the whole global batch, differentiated with respect to embeddings (GradCache).

The embeddings of all ranks and micro-batches are compared here without the encoders' graph; the
gradients found are handed to the encoders afterwards, micro-batch by micro-batch. The result is
that of one huge batch, in the memory of one micro-batch (Gao et al. 2021, arXiv 2101.06983).

Legend for shapes: B rows of one micro-batch, G rows of the global batch, E projection width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from flava_plugin.train.world import World


class GlobalLoss(Protocol):
    """What a loss with ``scope = "global"`` offers; see ``components/losses.py``."""

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
        """Losses of the counted rows among (B, E) local rows, which start at ``offset`` of G."""
        ...


@dataclass(frozen=True)
class Embeddings:
    """What one micro-batch contributes to a global loss.

    Attributes:
        image: (B, E) fp32.
        text: (B, E) fp32, row by row the texts of ``image``.
        log_scale: 0-dim.
        positives: (B,) bool, the rows that count.
    """

    image: Tensor
    text: Tensor
    log_scale: Tensor
    positives: Tensor


@dataclass(frozen=True)
class Gradients:
    """The gradients that one micro-batch's embeddings receive.

    Attributes:
        image: (B, E).
        text: (B, E).
        log_scale: 0-dim, of this micro-batch's rows only.
    """

    image: Tensor
    text: Tensor
    log_scale: Tensor

    def pull(self, image: Tensor, text: Tensor, log_scale: Tensor) -> Tensor:
        """A scalar whose backward pass delivers these gradients.

        Args:
            image: (B, E) with the encoder's graph.
            text: (B, E) with the encoder's graph.
            log_scale: 0-dim, with its graph.

        Returns:
            0-dim; its value means nothing.
        """
        return (
            (image * self.image).sum()
            + (text * self.text).sum()
            + (log_scale * self.log_scale).sum()
        )


def differentiate(
    loss: GlobalLoss, parts: Sequence[Embeddings], world: World, rows: Sequence[int]
) -> tuple[Tensor, list[Gradients]]:
    """Differentiate the sum of a global loss over all counted rows of all ranks.

    Row i of the gathered images is paired with row i of the gathered texts: ranks stand one after
    the other, and within a rank its micro-batches. Only (B, G) similarities stand in memory.

    Args:
        loss: The loss.
        parts: This rank's micro-batches.
        world: All ranks take part.
        rows: Rows of all micro-batches together, of every rank.

    Returns:
        The sum over this rank's counted rows, 0-dim fp32, detached; and for each micro-batch the
        gradients of the sum over all ranks.
    """
    # In fp32 whatever the precision of the forward: the sum runs over the whole global batch.
    image = torch.cat([part.image for part in parts]).detach().float().requires_grad_()
    text = torch.cat([part.text for part in parts]).detach().float().requires_grad_()
    gathered = [world.gather_rows(side, rows) for side in (image, text)]
    columns = [side.detach().requires_grad_() for side in gathered]
    offset, first = sum(rows[: world.rank]), 0
    total = torch.zeros((), device=image.device)
    scales = []
    for part in parts:
        own = slice(first, first + len(part.image))
        scale = part.log_scale.detach().float().requires_grad_()
        losses = loss.rows(
            image[own],
            text[own],
            columns[0],
            columns[1],
            offset + first,
            part.positives,
            log_scale=scale,
        )
        torch.autograd.backward(losses.float().sum())
        total += losses.detach().float().sum()
        scales.append(torch.zeros_like(scale) if scale.grad is None else scale.grad)
        first = own.stop
    for side, column in zip(gathered, columns, strict=True):
        unused = column.grad is None  # by a loss with one direction
        torch.autograd.backward(side, torch.zeros_like(column) if unused else column.grad)
    assert image.grad is not None and text.grad is not None, "gathered from them"
    lengths = [len(part.image) for part in parts]
    pieces = zip(
        torch.split(image.grad, lengths), torch.split(text.grad, lengths), scales, strict=True
    )
    return total, [Gradients(*piece) for piece in pieces]
