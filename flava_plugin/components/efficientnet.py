"""A convolutional image encoder: torchvision's EfficientNet with global pooling, as ALIGN has it.

ALIGN (Jia et al. 2021, arXiv 2102.05918, section 4.2) takes EfficientNet-L2 in its largest model
and sizes from B1 to B7 besides; its text encoder is BERT's, whose [CLS] it reads, which here is
``flava_text``. The network's sizes are those of one table by two factors (Tan and Le 2019, arXiv
1905.11946), so a size for pictures of 48 pixels is a pair of factors like every other.

Batch norms are replaced by group norms: with batch norms a row's loss depends on which rows share
its micro-batch, the contrastive loss over the cached global batch has two different forwards, and
ranks have statistics of their own. A group norm depends on its row alone (Wu and He 2018, arXiv
1803.08494).
"""

from __future__ import annotations

import math
from typing import Annotated, cast

from pydantic import Field
from torch import Tensor, nn
from torchvision.models.efficientnet import EfficientNet, MBConvConfig

from flava_plugin.components.clip_encoders import refuse_mask
from flava_plugin.components.encoders import Rate, Size
from flava_plugin.schema import Float

STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
"""EfficientNet-B0's stages (its paper's table 1, torchvision's ``_efficientnet_conf``): factor of
expansion, kernel, stride, channels in and out, layers."""

PER_GROUP = 8
"""Channels of a group; channel counts are multiples of 8 (the group norm paper's table 3: 8 or 16
channels are within 0.2 points of the best)."""

Factor = Annotated[Float, Field(gt=0)]


class EfficientNetImage(nn.Module):
    """EfficientNet up to its global pooling; the defaults are B7's.

    It has one state for a picture and no patches, so P is 0, and nothing can be hidden from it.

    Args:
        width_factor: Factor of the number of channels (B0: 1.0; B7: 2.0; L2: 4.3).
        depth_factor: Factor of the number of layers (B0: 1.0; B7: 3.1; L2: 5.3).
        stem_stride: Stride of the first convolution (EfficientNet: 2); 1 for small pictures.
        stochastic_depth: Share of residual blocks dropped at the last one (torchvision: 0.2).
    """

    hides_patches = False
    num_patches = 0

    def __init__(
        self,
        *,
        width_factor: Factor = 2.0,
        depth_factor: Factor = 3.1,
        stem_stride: Annotated[Size, Field(le=2)] = 2,
        stochastic_depth: Rate = 0.2,
    ) -> None:
        super().__init__()
        stages = [
            MBConvConfig(*stage, width_mult=width_factor, depth_mult=depth_factor)
            for stage in STAGES
        ]
        network = EfficientNet(
            stages,
            dropout=0.0,
            stochastic_depth_prob=stochastic_depth,
            num_classes=1,
            norm_layer=group_norm,
        )
        self.features = network.features
        stem = cast(nn.Sequential, network.features[0])[0]
        cast(nn.Conv2d, stem).stride = (stem_stride, stem_stride)
        self.avgpool = network.avgpool
        self.width = cast(nn.Linear, network.classifier[-1]).in_features
        self.draws = stochastic_depth > 0

    def forward(self, image: Tensor, patch_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode images of any size.

        Args:
            image: (B, 3, H, W) float, normalised.
            patch_mask: None or (B, 0), for there is nothing to hide.

        Returns:
            The pooled state twice, for nothing norms it, (B, 1, D).
        """
        refuse_mask(self, patch_mask)
        pooled = self.avgpool(self.features(image)).flatten(2).transpose(1, 2)
        return pooled, pooled


def group_norm(channels: int) -> nn.GroupNorm:
    """Make a norm of ``PER_GROUP`` channels each.

    Args:
        channels: Number of channels.

    Returns:
        The norm.
    """
    return nn.GroupNorm(channels // math.gcd(channels, PER_GROUP), channels)
