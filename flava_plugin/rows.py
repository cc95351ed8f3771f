"""Rows of a matrix taken out and put back, each at most once.

The backward passes copy, where those of ``rows[index]`` and ``scatter_add`` would add: faster on a
CPU, and the same bits each time on a GPU.

Legend for shapes: N rows of a matrix, n of them, D width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def pick(rows: Tensor, index: Tensor) -> Tensor:
    """Take rows of a matrix, each at most once.

    Args:
        rows: (N, D).
        index: (n,) long, all different.

    Returns:
        (n, D).
    """
    picked: Tensor = _Pick.apply(rows, index)  # type: ignore[no-untyped-call]
    return picked


def place(rows: Tensor, index: Tensor, count: int, fill: float = 0.0) -> Tensor:
    """Put rows into a larger matrix.

    Args:
        rows: (n, D).
        index: (n,) long, all different.
        count: Rows N of the larger matrix.
        fill: What its other rows hold.

    Returns:
        (N, D).
    """
    placed: Tensor = _Place.apply(rows, index, count, fill)  # type: ignore[no-untyped-call]
    return placed


class _Pick(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(rows)
        return rows.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        whole = grad.new_zeros(ctx.count, *grad.shape[1:])
        return whole.index_copy_(0, index, grad), None


class _Place(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, count: int, fill: float) -> Tensor:
        ctx.save_for_backward(index)
        whole = rows.new_full((count, *rows.shape[1:]), fill)
        return whole.index_copy_(0, index, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (index,) = ctx.saved_tensors
        return grad.index_select(0, index), None, None, None
