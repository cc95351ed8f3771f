"""FLAVA's three encoders (paper section 3.1): pre-norm transformers with GELU.

What the backbone asks of any encoder, built-in or foreign:

- ``width``: its width D.
- The image encoder also ``image_size`` (pixels), ``num_patches`` P, and
  ``forward(image (B, 3, H, W), patch_mask (B, P) bool or None)``.
- The text encoder ``forward(ids (B, L) long, padding (B, L) bool or None)``.
- Both return ``(last, states)``: the last layer's output, which the multimodal encoder reads, and
  the same after the final norm, which everything else reads; (B, 1 + P, D) and (B, L, D), [CLS]
  first.
- The fused encoder ``forward(states (B, S, D), padding (B, S) bool or None)`` puts its own [CLS] in
  front and returns (B, 1 + S, D) after the final norm.
- ``recipe_init = True`` where the recipe's ``init_std`` is to fill its weights; an encoder that
  brings its own weights leaves it out.
- ``reads_positions = True`` where ``forward`` takes as a last argument ``read``, bool over the
  positions of its output, True where somebody reads it, or None for all; it may leave the others
  out and put NaN there. An encoder without it computes all. An image encoder with it also says
  ``patch_size`` (pixels).
- ``hides_patches = False`` on an image encoder's builder where it has no mask token. P may be 0.
- ``draws = True`` on a module that draws random numbers in training otherwise than by torch's
  dropout layers or a rate in an attribute ``dropout``. Rows must not depend on each other: masked
  and clean ones may go through in one forward.

Parameters bear torchmultimodal's names. The poolers are there for that reason alone: the released
weights have them, and no pretraining loss reads them.
"""

from __future__ import annotations

from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torchmultimodal.models.flava.image_encoder import ImageEmbeddings
from torchmultimodal.modules.layers.normalizations import Fp32LayerNorm
from torchmultimodal.modules.layers.text_embedding import BERTTextEmbeddings
from torchmultimodal.modules.losses.flava import Pooler

from flava_plugin.model.attention import ENCODER_EPS, EncoderStack
from flava_plugin.model.positions import count_patches, grid_of, resize_positions
from flava_plugin.schema import Float, Int

Size = Annotated[Int, Field(gt=0)]
Rate = Annotated[Float, Field(ge=0, lt=1)]


class ImageEncoder(nn.Module):
    """A vision transformer with a mask token.

    Args:
        stack: The layers.
        width: Width D.
        image_size: Pixels of a side the position embeddings are made for.
        patch_size: Pixels of a patch's side.
        dropout: Of the embeddings.

    Raises:
        ValueError: ``image_size`` is not a multiple of ``patch_size``.
    """

    recipe_init = True
    reads_positions = True

    def __init__(
        self, stack: EncoderStack, width: int, image_size: int, patch_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.width = width
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_patches = count_patches(image_size, patch_size)
        self.embeddings = ImageEmbeddings(
            image_size, patch_size, hidden_size=width, hidden_dropout_prob=dropout
        )
        self.encoder = stack
        self.layernorm = Fp32LayerNorm(width, eps=ENCODER_EPS)
        self.pooler = Pooler(width)

    def forward(
        self, image: Tensor, patch_mask: Tensor | None = None, read: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode images; another size than the built one gets resized position embeddings.

        Args:
            image: (B, 3, H, W) float, normalised.
            patch_mask: (B, P) bool, True where the mask token stands in for the patch.
            read: (B, 1 + P) bool, True where the output is read; None for everywhere.

        Returns:
            The last layer's output and the same after the final norm, both (B, 1 + P, D).

        Raises:
            ValueError: H or W is not a multiple of the patch size.
        """
        tokens = self.encoder(self._embed(image, patch_mask), None, read)
        return tokens.padded(), tokens.normed(self.layernorm)

    def _embed(self, image: Tensor, patch_mask: Tensor | None) -> Tensor:
        """(B, 1 + P, D): as ``ImageEmbeddings`` does it, but for the way positions are resized."""
        grid, parts = grid_of(image, self.patch_size), self.embeddings
        patches = parts.patch_embeddings(image, interpolate_pos_encoding=True)
        if patch_mask is not None:
            if patch_mask.shape != patches.shape[:2]:
                raise ValueError(
                    f"patch_mask is {tuple(patch_mask.shape)}, but images of {image.shape[2]} x "
                    f"{image.shape[3]} pixels have {tuple(patches.shape[:2])} patches; masks are "
                    "made for data.image.size"
                )
            patches = torch.where(patch_mask[..., None], parts.mask_token, patches)
        joined = torch.cat([parts.cls_token.expand(image.shape[0], -1, -1), patches], dim=1)
        embedded = parts.dropout(joined + resize_positions(parts.position_embeddings, grid))
        return cast(Tensor, embedded)


class TextEncoder(nn.Module):
    """A BERT-like text transformer, pre-norm as in FLAVA.

    Args:
        stack: The layers.
        words: Size of the vocabulary; id 0 is padding, as in BERT's.
        width: Width D.
        max_positions: Most tokens of a text.
        dropout: Of the embeddings.
    """

    recipe_init = True
    reads_positions = True

    def __init__(
        self, stack: EncoderStack, words: int, width: int, max_positions: int, dropout: float
    ) -> None:
        super().__init__()
        self.width = width
        self.max_positions = max_positions
        self.embeddings = BERTTextEmbeddings(
            hidden_size=width,
            vocab_size=words,
            max_position_embeddings=max_positions,
            layer_norm_eps=ENCODER_EPS,
            dropout=dropout,
        )
        self.encoder = stack
        self.layernorm = Fp32LayerNorm(width, eps=ENCODER_EPS)
        self.pooler = Pooler(width)

    def forward(
        self, ids: Tensor, padding: Tensor | None = None, read: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode texts.

        Args:
            ids: (B, L) long.
            padding: (B, L) bool, True at real tokens; None where there is no padding.
            read: (B, L) bool, True where the output is read; None for all real tokens.

        Returns:
            The last layer's output and the same after the final norm, both (B, L, D).

        Raises:
            ValueError: A text is longer than ``max_positions``.
        """
        if ids.shape[1] > self.max_positions:
            raise ValueError(
                f"a text of {ids.shape[1]} tokens is longer than model.text_encoder.max_positions "
                f"{self.max_positions}; raise it, or lower data.text.text_length or pair_length"
            )
        tokens = self.encoder(self.embeddings(ids), padding, read)
        return tokens.padded(), tokens.normed(self.layernorm)


class FusedEncoder(nn.Module):
    """The multimodal transformer over image and text states, with a [CLS] of its own.

    Args:
        stack: The layers.
        width: Width D.
    """

    recipe_init = True
    reads_positions = True

    def __init__(self, stack: EncoderStack, width: int) -> None:
        super().__init__()
        self.width = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = stack
        self.layernorm = Fp32LayerNorm(width, eps=ENCODER_EPS)
        self.pooler = Pooler(width)

    def forward(
        self, states: Tensor, padding: Tensor | None = None, read: Tensor | None = None
    ) -> Tensor:
        """Fuse image and text states.

        Args:
            states: (B, S, D), image states and then text states.
            padding: (B, S) bool, True at real positions; None to attend to all.
            read: (B, 1 + S) bool, True where the output is read; None for all real positions.

        Returns:
            (B, 1 + S, D) after the final norm, [CLS_M] first.
        """
        joined = torch.cat([self.cls_token.expand(states.shape[0], -1, -1), states], dim=1)
        if padding is not None:
            padding = torch.cat([padding.new_ones(padding.shape[0], 1), padding], dim=1)
        return cast(Tensor, self.encoder(joined, padding, read).normed(self.layernorm))


def flava_image(
    *,
    layers: Size = 12,
    width: Size = 768,
    heads: Size = 12,
    mlp: Size | None = None,
    image_size: Size = 224,
    patch_size: Size = 16,
    dropout: Rate = 0.0,
) -> nn.Module:
    """FLAVA's image encoder; the defaults are ViT-B/16 as in the paper.

    Args:
        layers: Transformer layers.
        width: Width D.
        heads: Attention heads of a layer.
        mlp: Width of the feed-forward blocks; null for four times ``width``.
        image_size: Pixels of a side; equals ``data.image.size``.
        patch_size: Pixels of a patch's side.
        dropout: Share dropped in training (paper: 0).

    Returns:
        The encoder.
    """
    stack = EncoderStack(layers, width, heads, mlp, dropout)
    return ImageEncoder(stack, width, image_size, patch_size, dropout)


def flava_text(
    words: int,
    /,
    *,
    layers: Size = 12,
    width: Size = 768,
    heads: Size = 12,
    mlp: Size | None = None,
    max_positions: Size = 512,
    dropout: Rate = 0.0,
) -> nn.Module:
    """FLAVA's text encoder; the defaults are the paper's.

    Args:
        words: Size of the vocabulary.
        layers: Transformer layers.
        width: Width D.
        heads: Attention heads of a layer.
        mlp: Width of the feed-forward blocks; null for four times ``width``.
        max_positions: Most tokens of a text.
        dropout: Share dropped in training (paper: 0).

    Returns:
        The encoder.
    """
    stack = EncoderStack(layers, width, heads, mlp, dropout)
    return TextEncoder(stack, words, width, max_positions, dropout)


def flava_fused(
    *,
    layers: Size = 6,
    width: Size = 768,
    heads: Size = 12,
    mlp: Size | None = None,
    dropout: Rate = 0.0,
) -> nn.Module:
    """FLAVA's multimodal encoder; the defaults are the paper's.

    Args:
        layers: Transformer layers.
        width: Width D.
        heads: Attention heads of a layer.
        mlp: Width of the feed-forward blocks; null for four times ``width``.
        dropout: Share dropped in training (paper: 0).

    Returns:
        The encoder.
    """
    return FusedEncoder(EncoderStack(layers, width, heads, mlp, dropout), width)
