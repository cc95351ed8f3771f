"""CLIP's two encoders (Radford et al. 2021, arXiv 2103.00020), for a dual encoder to compare with.

They are made of this package's layers, so that they are as fast as FLAVA's and ``flava plan`` knows
their work; ``tests/parity/test_clip.py`` holds them against torchmultimodal's CLIP. Two
departures: the contrastive projections, which belong to the backbone, have a bias, which starts at
0; and the layers of images get the first weights that CLIP's code gives those of texts, where it
leaves torch's. What an encoder has to offer is said in ``encoders.py``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchmultimodal.modules.layers.activation import SiLU
from torchmultimodal.modules.layers.normalizations import Fp32LayerNorm

from flava_plugin.components.encoders import Size
from flava_plugin.model.attention import EncoderLayer, EncoderStack
from flava_plugin.model.positions import count_patches, grid_of, resize_positions

NORM_EPS = 1e-5
"""Epsilon of every layer norm (CLIP's code and torchmultimodal's: torch's default)."""


class ClipImage(nn.Module):
    """CLIP's vision transformer; the defaults are ViT-B/16.

    Args:
        layers: Transformer layers.
        width: Width D.
        heads: Attention heads of a layer.
        mlp: Width of the feed-forward blocks; null for four times ``width``.
        image_size: Pixels of a side; equals ``data.image.size``.
        patch_size: Pixels of a patch's side.

    Raises:
        ValueError: ``image_size`` is not a multiple of ``patch_size``.
    """

    reads_positions = True
    hides_patches = False

    def __init__(
        self,
        *,
        layers: Size = 12,
        width: Size = 768,
        heads: Size = 12,
        mlp: Size | None = None,
        image_size: Size = 224,
        patch_size: Size = 16,
    ) -> None:
        super().__init__()
        self.width = width
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_patches = count_patches(image_size, patch_size)
        self.conv = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        scale = width**-0.5
        self.cls_token_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + self.num_patches, width))
        nn.init.normal_(self.cls_token_embedding, std=scale)  # both as CLIP's code
        nn.init.normal_(self.positional_embedding, std=scale)
        self.ln_pre = Fp32LayerNorm(width, eps=NORM_EPS)
        self.encoder = clip_stack(layers, width, heads, mlp, causal=False)
        self.ln_post = Fp32LayerNorm(width, eps=NORM_EPS)

    def forward(
        self, image: Tensor, patch_mask: Tensor | None = None, read: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode images; another size than the built one gets resized position embeddings.

        Args:
            image: (B, 3, H, W) float, normalised.
            patch_mask: None, for there is no mask token.
            read: (B, 1 + P) bool, True where the output is read; None for everywhere.

        Returns:
            The last layer's output and the same after the final norm, both (B, 1 + P, D).

        Raises:
            ValueError: Patches are to be hidden, or H or W is not a multiple of the patch size.
        """
        refuse_mask(self, patch_mask)
        grid = grid_of(image, self.patch_size)
        patches = self.conv(image).flatten(2).transpose(1, 2)
        first = self.cls_token_embedding.to(patches.dtype).expand(image.shape[0], 1, -1)
        positions = resize_positions(self.positional_embedding[None], grid)
        embedded = self.ln_pre(torch.cat([first, patches], dim=1) + positions)
        tokens = self.encoder(embedded, None, read)
        return tokens.padded(), tokens.normed(self.ln_post)


class ClipText(nn.Module):
    """CLIP's text transformer: causal, its feature is the state of the end-of-text token.

    The end-of-text token is the last one of a text, ``[SEP]``. Its state is given in the place of
    the first one, where every head, probe and projection reads an encoder's feature; the first
    token's state, which has seen nothing, is given in its place.

    Args:
        words: Size of the vocabulary.
        layers: Transformer layers.
        width: Width D.
        heads: Attention heads of a layer.
        mlp: Width of the feed-forward blocks; null for four times ``width``.
        max_positions: Most tokens of a text.
    """

    reads_positions = True

    def __init__(
        self,
        words: int,
        /,
        *,
        layers: Size = 12,
        width: Size = 512,
        heads: Size = 8,
        mlp: Size | None = None,
        max_positions: Size = 77,
    ) -> None:
        super().__init__()
        self.width = width
        self.max_positions = max_positions
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.empty(max_positions, width))
        nn.init.normal_(self.token_embedding.weight, std=0.02)  # both as CLIP's code
        nn.init.normal_(self.positional_embedding, std=0.01)
        self.encoder = clip_stack(layers, width, heads, mlp, causal=True)
        self.ln_final = Fp32LayerNorm(width, eps=NORM_EPS)

    def forward(
        self, ids: Tensor, padding: Tensor | None = None, read: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode texts.

        Args:
            ids: (B, L) long.
            padding: (B, L) bool, True at real tokens; None where there is no padding.
            read: (B, L) bool, True where the output is read; None for all real tokens.

        Returns:
            The last layer's output and the same after the final norm, both (B, L, D), each with
            the end's state first and the first one's at the end.

        Raises:
            ValueError: A text is longer than ``max_positions``.
        """
        if ids.shape[1] > self.max_positions:
            raise ValueError(
                f"a text of {ids.shape[1]} tokens is longer than model.text_encoder.max_positions "
                f"{self.max_positions}; raise it, or lower data.text.text_length or pair_length"
            )
        places = swapped_ends(ids, padding)
        asked = None if read is None else read.gather(1, places)
        embedded = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        tokens = self.encoder(embedded, padding, asked)
        states = (tokens.padded(), tokens.normed(self.ln_final))
        last, normed = (s.gather(1, places[..., None].expand_as(s)) for s in states)
        return last, normed


def swapped_ends(ids: Tensor, padding: Tensor | None) -> Tensor:
    """Say where to look so that the first and the last real token of each row change places.

    Args:
        ids: (B, L) long.
        padding: (B, L) bool, True at real tokens; None where there is no padding.

    Returns:
        (B, L) long; done twice it changes nothing.
    """
    rows, length = ids.shape
    if padding is None:
        ends = ids.new_full((rows, 1), length - 1)
    else:
        ends = padding.sum(1, keepdim=True) - 1
    places = torch.arange(length, device=ids.device).expand(rows, -1)
    return places.scatter(1, ends, 0).scatter(1, torch.zeros_like(ends), ends)


def clip_stack(
    layers: int, width: int, heads: int, mlp: int | None, *, causal: bool
) -> EncoderStack:
    """Build CLIP's layers with the first weights that its code gives them.

    Args:
        layers: How many.
        width: Width D.
        heads: Attention heads of a layer.
        mlp: Width of the feed-forward blocks; None for four times ``width``.
        causal: Whether a position attends to none behind it.

    Returns:
        The layers, with QuickGELU (torchmultimodal calls it ``SiLU``).
    """
    stack = EncoderStack(
        layers, width, heads, mlp, activation=SiLU, norm_eps=NORM_EPS, causal=causal
    )
    narrowing = width**-0.5 * (2 * layers) ** -0.5
    for layer in stack.layer:
        attention = cast(EncoderLayer, layer).attention
        widen, _, narrow = cast(EncoderLayer, layer).feedforward.model
        for linear, std in (
            (attention.query, width**-0.5),
            (attention.key, width**-0.5),
            (attention.value, width**-0.5),
            (attention.output, narrowing),
            (widen, (2 * width) ** -0.5),
            (narrow, narrowing),
        ):
            nn.init.normal_(cast(Tensor, linear.weight), std=std)
            nn.init.zeros_(cast(Tensor, linear.bias))
    return stack


def refuse_mask(encoder: nn.Module, patch_mask: Tensor | None) -> None:
    """Refuse to hide patches where there is no token to put in their place.

    Args:
        encoder: An image encoder.
        patch_mask: (B, P) bool, or None.

    Raises:
        ValueError: Patches are to be hidden.
    """
    if patch_mask is not None and patch_mask.shape[1]:
        raise ValueError(
            f"model.image_encoder: {type(encoder).__name__} has no mask token, so no objective can "
            "read masked images; use flava_image, or remove that objective"
        )
