"""A head for questions and statements about pictures, beside ``classifier`` on [CLS_M]."""

from __future__ import annotations

from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchmultimodal.modules.layers.mlp import MLP

from flava_plugin.components.heads import known_classes
from flava_plugin.schema import Float, Int
from flava_plugin.types import Batch, Features, Widths

Number = Annotated[Int, Field(gt=0)]


class PairComparison(nn.Module):
    """Classes from [CLS_M] and from how the contrastive embeddings of picture and text differ.

    The embeddings u and v, which contrastive training made comparable, enter as u, v, u * v and
    |u - v| (Conneau et al. 2017, arXiv 1705.02364, for two sentences). What contrastive training
    has learnt of both is at hand there from the first step on; [CLS_M] has to be taught to say it.

    Args:
        widths: Sizes of the backbone.
        num_classes: Number of classes C. Null: as many as the dataset has ``class_names`` or
            ``answers``, which ``flava train`` writes into the recipe.
        hidden: Width of the hidden layer.
        dropout: Share dropped after the hidden layer in training.

    Raises:
        ValueError: The number of classes is still not known.
    """

    recipe_init = True
    needs = frozenset({"fused.cls", "image_projected", "text_projected"})

    def __init__(
        self,
        widths: Widths,
        /,
        *,
        num_classes: Number | None = None,
        hidden: Number = 1536,
        dropout: Annotated[Float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        size = widths.fused + 4 * widths.projection
        self.classifier = MLP(size, known_classes(num_classes), hidden, dropout)

    def forward(self, features: Features, batch: Batch) -> Tensor:
        """Classify every row.

        Args:
            features: With ``fused``, ``image_projected`` and ``text_projected``.
            batch: Not read.

        Returns:
            (B, C) logits.
        """
        image, text = features.image_projected, features.text_projected
        assert features.fused is not None and image is not None and text is not None
        # a norm of the root of E, so that a number is of order one, as in [CLS_M]
        scale = image.shape[-1] ** 0.5
        u, v = scale * normalize(image, dim=-1), scale * normalize(text, dim=-1)
        parts = [features.fused[:, 0], u, v, u * v, (u - v).abs()]
        return cast(Tensor, self.classifier(torch.cat(parts, -1)))
