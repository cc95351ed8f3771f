"""What a backward pass will reach, found out before it runs, and made to reach more.

The strategies that sum a gradient over ranks as soon as it is there need it: ranks whose passes do
not reach the same parameters would wait for each other, or add up what does not belong together. A
loss that is a constant where a rank has no row of its kind is enough for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def nodes_of(loss: Tensor) -> set[Any]:
    """Follow a loss's graph.

    Args:
        loss: A scalar.

    Returns:
        Its nodes; ``grad_fn`` of tensors that the loss depends on is among them.
    """
    waiting: list[Any] = [loss.grad_fn]
    nodes: set[Any] = {None}  # the nodes themselves, for an id may be given twice
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            waiting += [following for following, _ in node.next_functions]
    nodes.discard(None)
    return nodes


def leaves_in(nodes: Iterable[Any]) -> set[int]:
    """Find the parameters that a graph ends at.

    Args:
        nodes: Those of the graph.

    Returns:
        Identities of the parameters.
    """
    return {id(node.variable) for node in nodes if hasattr(node, "variable")}


def reached(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Find out which parameters a loss depends on.

    Args:
        parameters: N leaves of the graph.
        loss: A scalar.

    Returns:
        (N,) int32 on the CPU, 1 for those that it depends on.
    """
    leaves = leaves_in(nodes_of(loss))
    return torch.tensor([id(parameter) in leaves for parameter in parameters], dtype=torch.int32)


def anchored(
    loss: Tensor, anchors: Sequence[Tensor], at_end: Callable[[], None] | None = None
) -> Tensor:
    """Have a backward pass go through tensors that a loss may not depend on.

    Args:
        loss: A scalar.
        anchors: Tensors of its graph or of another; they get a gradient of 0.
        at_end: Called when the pass has gone through the graph, before what a later node of it
            has queued for its end.

    Returns:
        The loss.
    """
    apply: Callable[..., Tensor] = _Anchored.apply
    return apply(at_end, loss, *anchors)


class _Anchored(torch.autograd.Function):
    """No sum of products with 0, as positions that nobody reads hold NaN."""

    @staticmethod
    def forward(ctx: Any, at_end: Any, loss: Tensor, *anchors: Tensor) -> Tensor:
        ctx.at_end = at_end
        ctx.kinds = [(anchor.shape, anchor.dtype, anchor.device) for anchor in anchors]
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.at_end is not None:  # this node runs first, and so does its callback
            torch.autograd.Variable._execution_engine.queue_callback(ctx.at_end)
        # Single zeros seen as many cost no memory.
        zeros = (torch.zeros((), dtype=t, device=d).expand(shape) for shape, t, d in ctx.kinds)
        return None, gradients[0], *zeros
