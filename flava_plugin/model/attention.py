"""The transformer every encoder is made of: torchmultimodal's parameters, less work.

torchmultimodal's own layer computes the attention matrix by hand and returns it from every layer,
which rules out fused kernels and keeps (R, H, L, L) numbers per layer for the backward pass. Here
attention is fused where that is faster, padding is left out, and the last layer computes only what
is read.

Legend for shapes: R rows, L positions, N tokens (see ``layout.py``), D width, H attention heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects
from torch.utils.checkpoint import checkpoint
from torchmultimodal.modules.layers.mlp import MLP
from torchmultimodal.modules.layers.normalizations import Fp32LayerNorm

from flava_plugin.model.attention_kernels import Kernel, attend
from flava_plugin.model.autocast import to_autocast
from flava_plugin.model.layout import Layout, Reading, lay_out, mask_of, reading_of
from flava_plugin.rows import pick

ENCODER_EPS = 1e-12
"""Epsilon of every layer norm inside the encoders (both public implementations: 1e-12)."""


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Args:
        width: Width D.
        heads: Number of attention heads H.
        dropout: Share of attention weights dropped in training.

    Attributes:
        kernel: How attention is computed.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.kernel: Kernel = "auto"
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)

    def forward(self, x: Tensor, layout: Layout, reading: Reading | None = None) -> Tensor:
        """Mix the tokens of each row.

        Args:
            x: (N, D).
            layout: Where they stand.
            reading: The tokens to compute; None for all.

        Returns:
            (N, D), or (n, D) of those that are read.
        """
        asking = x if reading is None else pick(x, reading.source)
        mixed = attend(
            self._split(self.query(asking)),
            self._split(self.key(x)),
            self._split(self.value(x)),
            layout if reading is None else reading.queries,
            layout,
            dropout=self.dropout if self.training else 0.0,
            kernel=self.kernel,
        )
        return cast(Tensor, self.output(mixed.flatten(1)))

    def weights(self, x: Tensor, layout: Layout, reading: Reading | None = None) -> Tensor:
        """Attention weights, for looking at; training never computes them.

        Args:
            x: (N, D).
            layout: Where they stand.
            reading: The tokens whose weights are wanted; None for all.

        Returns:
            (R, H, L, L) fp32; rows sum to 1, those of positions that are not computed are 0.
        """
        asking = x if reading is None else pick(x, reading.source)
        asked = layout if reading is None else reading.outputs
        queries, keys = (
            self._split(where.unpack(tokens)).transpose(1, 2)
            for where, tokens in ((asked, self.query(asking)), (layout, self.key(x)))
        )
        scores = (queries @ keys.transpose(-1, -2)).float() / queries.shape[-1] ** 0.5
        mask = mask_of(layout, layout)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        weights = torch.softmax(scores, dim=-1)
        computed = asked.unpack(torch.ones_like(asking[:, :1], dtype=torch.float32))
        return weights * computed[:, None]


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer.

    Args:
        width: Width D.
        heads: Number of attention heads H.
        mlp: Width of the feed-forward block.
        dropout: Share dropped of attention weights, of both blocks' outputs and inside the MLP.
        activation: Between the two linear layers of the MLP (FLAVA: GELU).
        norm_eps: Epsilon of both layer norms.

    Raises:
        ValueError: ``width`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        dropout: float = 0.0,
        *,
        activation: Callable[[], nn.Module] = nn.GELU,
        norm_eps: float = ENCODER_EPS,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} attention heads")
        self.dropout = dropout
        self.attention = SelfAttention(width, heads, dropout)
        # Built without dropout so that names do not depend on it: torchmultimodal counts the
        # dropout layer, and weights saved at dropout 0 would not load at 0.1.
        self.feedforward = MLP(width, width, mlp, dropout=0.0, activation=activation)
        self.attention_layernorm = Fp32LayerNorm(width, eps=norm_eps)
        self.feedforward_layernorm = Fp32LayerNorm(width, eps=norm_eps)

    def forward(self, x: Tensor, layout: Layout, reading: Reading | None = None) -> Tensor:
        """Run attention and feed-forward, each on the normalised input and added to it.

        Args:
            x: (N, D).
            layout: Where the tokens stand.
            reading: The tokens to compute; None for all. Keys and values are those of all tokens.

        Returns:
            (N, D), or (n, D) of those that are read.
        """
        normed = to_autocast(self.attention_layernorm(x))
        mixed = self._drop(self.attention(normed, layout, reading))
        x = mixed + (x if reading is None else pick(x, reading.source))
        widen, activate, narrow = self.feedforward.model
        hidden = self._drop(activate(widen(to_autocast(self.feedforward_layernorm(x)))))
        return x + self._drop(narrow(hidden))

    def attention_weights(
        self, x: Tensor, layout: Layout, reading: Reading | None = None
    ) -> Tensor:
        """Attention weights of this layer, for looking at.

        Args:
            x: (N, D), the layer's input.
            layout: Where the tokens stand.
            reading: The tokens whose weights are wanted; None for all.

        Returns:
            (R, H, L, L); see ``SelfAttention.weights``.
        """
        return self.attention.weights(self.attention_layernorm(x), layout, reading)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


@dataclass(frozen=True)
class Tokens:
    """What a stack gives: the tokens it computed and where they stand.

    Attributes:
        values: (N, D).
        layout: Where they stand.
        partial: Whether positions that were not asked for are missing, besides padding.
    """

    values: Tensor
    layout: Layout
    partial: bool

    def padded(self) -> Tensor:
        """Lay them out as rows.

        Returns:
            (R, L, D); padding that was not computed is 0.
        """
        return self.layout.unpack(self.values)

    def normed(self, norm: nn.Module) -> Tensor:
        """Lay them out as rows after a norm.

        Args:
            norm: Of width D.

        Returns:
            (R, L, D). Positions that nobody asked for are NaN, so that reading one by mistake
            shows; without such, padding that was not computed is 0.
        """
        return self.layout.unpack(norm(self.values), float("nan") if self.partial else 0.0)


class EncoderStack(nn.Module):
    """Transformer layers, one after the other; no final norm.

    Args:
        layers: How many.
        width: Width D.
        heads: Number of attention heads H.
        mlp: Width of the feed-forward blocks; None for four times ``width``.
        dropout: See ``EncoderLayer``.
        activation: The same.
        norm_eps: The same.
        causal: Whether a position attends to none behind it.

    Attributes:
        recompute_every: Each such layer is computed anew in the backward pass instead of keeping
            its activations; 0 for none, 1 for all. See ``execution.py``.
        may_pack: Whether padding may be left out of the computation.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        mlp: int | None = None,
        dropout: float = 0.0,
        *,
        activation: Callable[[], nn.Module] = nn.GELU,
        norm_eps: float = ENCODER_EPS,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.recompute_every = 0
        self.may_pack = True
        self.causal = causal
        self.layer = nn.ModuleList(
            EncoderLayer(
                width, heads, mlp or 4 * width, dropout, activation=activation, norm_eps=norm_eps
            )
            for _ in range(layers)
        )

    def forward(
        self, x: Tensor, padding: Tensor | None = None, read: Tensor | None = None
    ) -> Tokens:
        """Run every layer, the last one only where its output is read.

        Args:
            x: (R, L, D).
            padding: (R, L) bool, True at real positions, False at padding; None for no padding.
            read: (R, L) bool, True where the output is read; None for all real positions.

        Returns:
            The tokens, not normalised.
        """
        layout = lay_out(x, padding, may_pack=self.may_pack, causal=self.causal)
        tokens = layout.pack(x)
        *early, last = self.layer
        for number, layer in enumerate(early, start=1):
            tokens = self._run(layer, number, tokens, layout)
        reading = None if read is None else reading_of(layout, read)
        tokens = self._run(last, len(self.layer), tokens, layout, reading)
        return Tokens(tokens, layout if reading is None else reading.outputs, read is not None)

    def _run(
        self,
        layer: nn.Module,
        number: int,
        tokens: Tensor,
        layout: Layout,
        reading: Reading | None = None,
    ) -> Tensor:
        chosen = self.recompute_every and number % self.recompute_every == 0
        if chosen and torch.is_grad_enabled():
            computed: Tensor = checkpoint(layer, tokens, layout, reading, use_reentrant=False)
            return computed
        return cast(Tensor, layer(tokens, layout, reading))
