"""A head that scores answers, and its loss against soft labels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from flava_plugin import Batch, Features, Widths


class VqaAnswers(nn.Module):
    """Scores every answer from the multimodal [CLS].

    Args:
        widths: Sizes of the backbone.
        num_answers: Number of answers A.
        dropout: Share dropped before the linear layer.
    """

    needs = frozenset({"fused.cls"})

    def __init__(self, widths: Widths, /, *, num_answers: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths.fused, num_answers))

    def forward(self, features: Features, batch: Batch) -> Tensor:
        """Score the answers.

        Args:
            features: With ``fused``.
            batch: Not read.

        Returns:
            (B, A) logits.
        """
        return self.layers(features.fused[:, 0])


def soft_bce(*, target: str = "answers") -> Callable[[Tensor, Batch], Tensor]:
    """Binary cross entropy of every answer, summed as in VQA v2.

    Args:
        target: Name in ``Sample.extra`` of the (A,) soft labels.

    Returns:
        A loss of (B, A) logits.
    """

    def loss(prediction: Tensor, batch: Batch) -> Tensor:
        wanted = batch.extra[target].to(prediction.dtype)
        losses = binary_cross_entropy_with_logits(prediction, wanted, reduction="none")
        return losses.float().sum(dim=1)

    return loss
