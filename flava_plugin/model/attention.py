"""The transformer layer every encoder is made of: torchmultimodal's parameters, fused attention.

torchmultimodal's own layer computes the attention matrix by hand and returns it from every layer,
which rules out fused kernels and keeps (B, H, L, L) numbers per layer for the backward pass.

Legend for shapes: B rows, L positions, D width, H attention heads, d = D / H.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects
from torch.utils.checkpoint import checkpoint
from torchmultimodal.modules.layers.mlp import MLP
from torchmultimodal.modules.layers.normalizations import Fp32LayerNorm

ENCODER_EPS = 1e-12
"""Epsilon of every layer norm inside the encoders (both public implementations: 1e-12)."""


class SelfAttention(nn.Module):
    """Multi-head self-attention by ``scaled_dot_product_attention``.

    Args:
        width: Width D.
        heads: Number of attention heads H.
        dropout: Share of attention weights dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Mix the positions of each row.

        Args:
            x: (B, L, D).
            mask: (B, 1, 1, L) bool, True where a position may be attended to; None for all.

        Returns:
            (B, L, D).
        """
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(x)),
            self._split(self.key(x)),
            self._split(self.value(x)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return cast(Tensor, self.output(mixed.transpose(1, 2).flatten(2)))

    def weights(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attention weights, for looking at; training never computes them.

        Args:
            x: (B, L, D).
            mask: (B, 1, 1, L) bool, or None.

        Returns:
            (B, H, L, L) fp32, rows sum to 1.
        """
        query, key = self._split(self.query(x)), self._split(self.key(x))
        scores = (query @ key.transpose(-1, -2)).float() / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return torch.softmax(scores, dim=-1)


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer.

    Args:
        width: Width D.
        heads: Number of attention heads H.
        mlp: Width of the feed-forward block.
        dropout: Share dropped of attention weights, of both blocks' outputs and inside the MLP.

    Raises:
        ValueError: ``width`` is not a multiple of ``heads``.
    """

    def __init__(self, width: int, heads: int, mlp: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} attention heads")
        self.dropout = dropout
        self.attention = SelfAttention(width, heads, dropout)
        # Built without dropout so that names do not depend on it: torchmultimodal counts the
        # dropout layer, and weights saved at dropout 0 would not load at 0.1.
        self.feedforward = MLP(width, width, mlp, dropout=0.0, activation=nn.GELU)
        self.attention_layernorm = Fp32LayerNorm(width, eps=ENCODER_EPS)
        self.feedforward_layernorm = Fp32LayerNorm(width, eps=ENCODER_EPS)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run attention and feed-forward, each on the normalised input and added to it.

        Args:
            x: (B, L, D).
            mask: (B, 1, 1, L) bool, True where a position may be attended to; None for all.

        Returns:
            (B, L, D).
        """
        x = x + self._drop(self.attention(self.attention_layernorm(x), mask))
        widen, activate, narrow = self.feedforward.model
        hidden = self._drop(activate(widen(self.feedforward_layernorm(x))))
        return x + self._drop(narrow(hidden))

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention weights of this layer, for looking at.

        Args:
            x: (B, L, D), the layer's input.
            mask: (B, 1, 1, L) bool, or None.

        Returns:
            (B, H, L, L).
        """
        return self.attention.weights(self.attention_layernorm(x), mask)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class EncoderStack(nn.Module):
    """Transformer layers, one after the other; no final norm.

    Args:
        layers: How many.
        width: Width D.
        heads: Number of attention heads H.
        mlp: Width of the feed-forward blocks; None for four times ``width``.
        dropout: See ``EncoderLayer``.

    Attributes:
        activation_checkpointing: Whether the backward pass recomputes each layer instead of keeping
            its activations; the backbone sets it.
    """

    def __init__(
        self, layers: int, width: int, heads: int, mlp: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.activation_checkpointing = False
        self.layer = nn.ModuleList(
            EncoderLayer(width, heads, mlp or 4 * width, dropout) for _ in range(layers)
        )

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Run every layer.

        Args:
            x: (B, L, D).
            padding: (B, L) bool, True at real positions, False at padding; None for no padding.

        Returns:
            (B, L, D), not normalised.
        """
        mask = None if padding is None else padding[:, None, None, :]
        recompute = self.activation_checkpointing and torch.is_grad_enabled()
        for layer in self.layer:
            x = checkpoint(layer, x, mask, use_reentrant=False) if recompute else layer(x, mask)
        return x
