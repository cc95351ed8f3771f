"""Ways to compute the same attention, and which one is the fastest where.

Legend for shapes: R rows, L keys and Q queries of a row, N tokens, H heads, d width of a head.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin.model.layout import Layout, mask_of

Kernel = Literal["auto", "fused", "plain", "varlen"]
"""``fused``: torch's ``scaled_dot_product_attention``; ``plain``: two matrix products and a
softmax; ``varlen``: tokens of packed rows, no padding at all (CUDA, half precision, torch 2.10)."""

PLAIN_IS_FASTER = frozenset({("cpu", torch.bfloat16)})
"""Kind of device and dtype where ``auto`` takes ``plain``.

Measured at 50 to 275 positions: torch's fused CPU kernel in bfloat16 takes twice as long backward
as two matrix products (``tests/benchmarks/RESULTS.md``). In float32 it is as fast and keeps no
weights. CUDA: not measured here; its fused kernels are what they are for.
"""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Layout,
    keys: Layout,
    *,
    dropout: float = 0.0,
    kernel: Kernel = "auto",
) -> Tensor:
    """Mix the values of each row by its queries' likeness to its keys.

    Args:
        query: (n, H, d), tokens of ``queries``.
        key: (N, H, d), tokens of ``keys``.
        value: (N, H, d), the same.
        queries: Layout of the queries; its rows are those of ``keys``.
        keys: Layout of keys and values.
        dropout: Share of attention weights dropped.
        kernel: How; ``auto`` takes what was measured to be fastest for the device and dtype.

    Returns:
        (n, H, d). Where ``varlen`` cannot be, such as in an evaluation in fp32, ``auto`` decides.
    """
    # Padding that was not left out needs a mask, which this kernel has not; nor can it say which
    # keys a query of a row read in part stands behind.
    no_mask = (keys.index is not None or keys.real is None) and queries.sees is None
    packed = keys.index is not None or kernel == "varlen"
    fits = kernel in ("auto", "varlen") and packed and no_mask and not dropout
    if fits and has_varlen(query.device, query.dtype):
        return varlen_attention(query, key, value, queries, keys)
    if kernel in ("auto", "varlen"):
        plain = (query.device.type, query.dtype) in PLAIN_IS_FASTER
        kernel = "plain" if plain else "fused"
    function = plain_attention if kernel == "plain" else F.scaled_dot_product_attention
    heads, width = query.shape[1:]

    def as_rows(tokens: Tensor, layout: Layout) -> Tensor:
        rows = layout.unpack(tokens.flatten(1))
        return rows.view(layout.rows, layout.length, heads, width).transpose(1, 2)

    mixed = function(
        as_rows(query, queries),
        as_rows(key, keys),
        as_rows(value, keys),
        attn_mask=mask_of(queries, keys),
        dropout_p=dropout,
    )
    return queries.pack(mixed.transpose(1, 2).flatten(2)).view(query.shape[0], heads, width)


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None, dropout_p: float
) -> Tensor:
    """Attention with its weights in memory, in the dtype of its inputs.

    Args:
        query: (R, H, Q, d).
        key: (R, H, L, d).
        value: (R, H, L, d).
        attn_mask: (R, 1, 1 or Q, L) bool, True where a key may be attended to; None for all.
        dropout_p: Share of attention weights dropped.

    Returns:
        (R, H, Q, d).
    """
    # Scaling the query first touches Q * d numbers where scaling the scores touches Q * L.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    weights = torch.softmax(scores, dim=-1)
    if dropout_p:
        weights = F.dropout(weights, dropout_p)
    return weights @ value


def check_kernel(kernel: Kernel, device: torch.device, *, bf16: bool) -> None:
    """Refuse a kernel that a run could never use.

    Args:
        kernel: The recipe's ``attention``.
        device: Where the run computes.
        bf16: Whether it trains in bf16.

    Raises:
        ValueError: ``varlen`` is asked for where there is none.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    if kernel == "varlen" and not has_varlen(device, dtype):
        raise ValueError(
            f"attention: 'varlen' needs CUDA, precision: bf16 and torch 2.10 or later; here are "
            f"{device.type}, {dtype} and torch {torch.__version__}; take attention: auto"
        )


def has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has attention over packed rows here.

    Args:
        device: Where the tokens are.
        dtype: Their type.

    Returns:
        True on CUDA in half precision with torch 2.10 or later.
    """
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    return hasattr(varlen, "varlen_attn")


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, queries: Layout, keys: Layout
) -> Tensor:
    """Attention over rows of different lengths that stand one after the other.

    Args:
        query: (n, H, d).
        key: (N, H, d).
        value: (N, H, d).
        queries: Layout of the queries.
        keys: Layout of keys and values.

    Returns:
        (n, H, d).
    """
    from torch.nn.attention.varlen import varlen_attn

    first, most = _starts(queries, query.device)
    begins, longest = _starts(keys, query.device)
    return cast(Tensor, varlen_attn(query, key, value, first, begins, most, longest))


def _starts(layout: Layout, device: torch.device) -> tuple[Tensor, int]:
    """Where each row starts, (R + 1,) int32, and the length of the longest at most."""
    if layout.index is None:
        count = layout.rows * layout.length
        starts = torch.arange(0, count + 1, layout.length, dtype=torch.int32, device=device)
        return starts, layout.length
    starts = torch.zeros(layout.rows + 1, dtype=torch.int32, device=device)
    starts[1:] = layout.lengths().cumsum(0)
    return starts, layout.length
