"""The encoders of a model as modules of tensors alone, which torch can write as one graph.

In training attention leaves padding out, so shapes depend on the data; a graph has the dense way
with a mask instead, which gives the same numbers where there is no padding.

Legend for shapes: B rows, P patches, L tokens, S = P + 1 + L, D width, E projection width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from flava_plugin.model.attention import EncoderStack
from flava_plugin.model.backbone import Backbone, fused_encoder_of, project

PartName = Literal["image", "text", "fused"]
PARTS: tuple[PartName, ...] = ("image", "text", "fused")


def parts_of(backbone: Backbone) -> tuple[PartName, ...]:
    """Which parts a model has.

    Args:
        backbone: The model's.

    Returns:
        All of ``PARTS``; of a dual encoder all but the last.
    """
    return PARTS if backbone.mm_encoder is not None else PARTS[:2]


class ImagePart(nn.Module):
    """The image encoder with its projection.

    Args:
        backbone: The model's.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.encoder = backbone.image_encoder
        self.projection = backbone.image_projection

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images.

        Args:
            image: (B, 3, H, W) float, normalised.

        Returns:
            The last layer (B, 1 + P, D), which the fused part reads; the same after the final norm;
            the projection of [CLS] (B, E), not normalised.
        """
        last, states = self.encoder(image, None)
        return last, states, project(self.projection, states)


class TextPart(nn.Module):
    """The text encoder with its projection.

    Args:
        backbone: The model's.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.encoder = backbone.text_encoder
        self.projection = backbone.text_projection

    def forward(self, ids: Tensor, padding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode texts.

        Args:
            ids: (B, L) long.
            padding: (B, L) bool, True at real tokens.

        Returns:
            The last layer (B, L, D), which the fused part reads; the same after the final norm;
            the projection of [CLS] (B, E), not normalised.
        """
        last, states = self.encoder(ids, padding)
        return last, states, project(self.projection, states)


class FusedPart(nn.Module):
    """The multimodal encoder with the maps into it.

    Args:
        backbone: The model's.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        # In a tuple, so that the parts of the backbone that do not run are no parameters of this.
        self._backbone = (backbone,)
        self.encoder = fused_encoder_of(backbone)
        self.from_image = backbone.image_to_mm_projection
        self.from_text = backbone.text_to_mm_projection

    def forward(self, image_last: Tensor, text_last: Tensor, padding: Tensor) -> Tensor:
        """Fuse the states of images and texts.

        Args:
            image_last: (B, 1 + P, D), the image part's first output.
            text_last: (B, L, D), the text part's first output.
            padding: (B, L) bool, True at real tokens.

        Returns:
            (B, 1 + S, D) after the final norm, [CLS_M] first.
        """
        released = self._backbone[0].padding == "released"
        states = torch.cat([self.from_image(image_last), self.from_text(text_last)], dim=1)
        mask = torch.cat([padding.new_ones(image_last.shape[:2]), padding], dim=1)
        if released:  # it attends to padding; the mask goes in, that the graph has the same inputs
            mask = torch.ones_like(mask)
        fused: Tensor = self.encoder(states, mask)
        return fused


@dataclass(frozen=True)
class Sizes:
    """Sizes that inputs are made of.

    Attributes:
        image: Pixels of a side.
        tokens: Most tokens of a text.
        words: Size of the vocabulary.
        image_width: Width D of the image encoder.
        text_width: Width D of the text encoder.
        patches: P.
    """

    image: int
    tokens: int
    words: int
    image_width: int
    text_width: int
    patches: int


INPUTS: dict[PartName, tuple[str, ...]] = {
    "image": ("image",),
    "text": ("ids", "padding"),
    "fused": ("image_last", "text_last", "padding"),
}
OUTPUTS: dict[PartName, tuple[str, ...]] = {
    "image": ("image_last", "image_states", "image_projected"),
    "text": ("text_last", "text_states", "text_projected"),
    "fused": ("fused_states",),
}
_MODULES = {"image": ImagePart, "text": TextPart, "fused": FusedPart}


def build_part_module(backbone: Backbone, part: PartName) -> nn.Module:
    """Make the module of one part; it shares the backbone's weights.

    Args:
        backbone: The model's.
        part: Which encoder.

    Returns:
        The module, in evaluation mode.
    """
    return _MODULES[part](backbone).eval()


@contextmanager
def dense(module: nn.Module) -> Iterator[None]:
    """Compute padding for a while, behind a mask, so that no shape depends on the data.

    Args:
        module: What holds encoders of ours; those of others are left alone.

    Yields:
        None: Inside, no stack packs its rows.
    """
    stacks = [part for part in module.modules() if isinstance(part, EncoderStack)]
    before = [stack.may_pack for stack in stacks]
    try:
        for stack in stacks:
            stack.may_pack = False
        yield
    finally:
        for stack, packs in zip(stacks, before, strict=True):
            stack.may_pack = packs


def random_inputs(part: PartName, sizes: Sizes, rows: int, tokens: int) -> tuple[Tensor, ...]:
    """Make inputs of a part, a function of the sizes alone.

    Args:
        part: Which encoder.
        sizes: Sizes.
        rows: B.
        tokens: L; the first row has no padding and each next one a token less, down to two.

    Returns:
        Its inputs in the order of ``INPUTS``.
    """
    dice = torch.Generator().manual_seed(1000 * rows + tokens)
    lengths = (tokens - torch.arange(rows)).clamp(min=min(2, tokens))
    padding = torch.arange(tokens)[None] < lengths[:, None]
    if part == "image":
        return (torch.randn(rows, 3, sizes.image, sizes.image, generator=dice),)
    if part == "text":
        low = min(5, sizes.words - 1)
        return torch.randint(low, sizes.words, (rows, tokens), generator=dice) * padding, padding
    image = torch.randn(rows, 1 + sizes.patches, sizes.image_width, generator=dice)
    text = torch.randn(rows, tokens, sizes.text_width, generator=dice)
    return image, text, padding


def counted(part: PartName, inputs: tuple[Tensor, ...]) -> Tensor | None:
    """Where the states of a part mean something.

    Args:
        part: Which encoder.
        inputs: Its inputs.

    Returns:
        (B, L) or (B, 1 + S) bool, False at padding; None where everything counts.
    """
    if part == "image":
        return None
    padding = inputs[-1]
    if part == "text":
        return padding
    rows, length = inputs[0].shape[:2]
    return torch.cat([padding.new_ones(rows, 1 + length), padding], dim=1)
