"""Which parameters a backward pass will reach, found out before it runs.

FairScale sums a gradient over ranks as soon as it is there, so that ranks whose passes do not reach
the same parameters would wait for each other, or add up what does not belong together. A loss that
is a constant where a rank has no row of its kind is enough for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def reached(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Find out which parameters a loss depends on.

    Args:
        parameters: N leaves of the graph.
        loss: A scalar.

    Returns:
        (N,) int32 on the CPU, 1 for those that it depends on.
    """
    waiting: list[Any] = [loss.grad_fn]
    seen: set[Any] = {None}  # the nodes themselves, for an id may be given twice
    found: set[int] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            found.add(id(variable))
        waiting += [following for following, _ in node.next_functions]
    return torch.tensor([id(parameter) in found for parameter in parameters], dtype=torch.int32)


def anchored(loss: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """Have a backward pass go through tensors that a loss may not depend on.

    Args:
        loss: A scalar.
        outputs: Tensors of its graph or of another.

    Returns:
        The loss, whose backward pass brings a gradient of 0 to the tensors.
    """
    apply: Callable[..., Tensor] = _Anchored.apply
    return apply(loss, *outputs)


class _Anchored(torch.autograd.Function):
    """No sum of products with 0, as positions that nobody reads hold NaN."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, *outputs: Tensor) -> Tensor:
        ctx.kinds = [(output.shape, output.dtype, output.device) for output in outputs]
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        # Single zeros seen as many cost no memory.
        zeros = (torch.zeros((), dtype=t, device=d).expand(shape) for shape, t, d in ctx.kinds)
        return gradients[0], *zeros
