"""Calls of encoders: the tensors in what they give, and whether a loss depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Call:
    """A forward pass of an encoder, a projection or a head.

    Attributes:
        inputs: Where the graph goes on before it; None where it was given more than it uses.
        outputs: What it returned.
    """

    inputs: list[Any] | None
    outputs: list[Tensor] = field(default_factory=list)


def reached_calls(loss: Tensor, calls: Sequence[Call]) -> set[int]:
    """Find the calls that a loss depends on, without following what they computed.

    Args:
        loss: A scalar.
        calls: Forward passes.

    Returns:
        Their numbers; some may be missing.
    """
    made: dict[Any, list[int]] = {}
    for number, call in enumerate(calls):
        for tensor in call.outputs:
            made.setdefault(tensor.grad_fn, []).append(number)
    found: set[int] = set()

    def before(node: Any) -> list[Any]:
        numbers = made.get(node, [])
        found.update(numbers)
        skipped = [calls[n].inputs for n in numbers if calls[n].inputs is not None]
        return skipped[0] or [] if skipped else _before(node)

    for _ in _walk(loss, before):
        pass
    return found


def reached_leaves(loss: Tensor) -> tuple[set[Any], set[int]]:
    """Follow a loss's whole graph.

    Args:
        loss: A scalar.

    Returns:
        Its nodes, and the identities of the parameters it depends on.
    """
    nodes = set(_walk(loss, _before))
    return nodes, {id(node.variable) for node in nodes if hasattr(node, "variable")}


def _before(node: Any) -> list[Any]:
    return [previous for previous, _ in node.next_functions]


def _walk(loss: Tensor, before: Callable[[Any], list[Any]]) -> Iterator[Any]:
    seen: set[Any] = {None}
    waiting: list[Any] = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting += before(node)


def tensors_in(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Look for tensors in an object of any class; modules and functions are not looked into.

    Args:
        value: The object.
        seen: Identities of objects that were looked into; added to.

    Yields:
        Tensor: Each one once.
    """
    if id(value) in seen or isinstance(value, nn.Module | type | ModuleType):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from tensors_in(item, seen)
    if not isinstance(value, Tensor):
        slots = (getattr(kind, "__slots__", ()) for kind in type(value).__mro__)
        names = [n for some in slots for n in ((some,) if isinstance(some, str) else some)]
        for name in names:
            yield from tensors_in(getattr(value, name, None), seen)
        yield from tensors_in(getattr(value, "__dict__", None), seen)


def differentiable(leaves: Iterable[Any]) -> Iterator[Any]:
    """Choose the tensors that a gradient flows to.

    Args:
        leaves: Anything.

    Returns:
        Tensors with ``requires_grad``.
    """
    return (leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad)


def anchored(loss: Tensor, anchors: Sequence[Tensor], at_end: Callable[[], None]) -> Tensor:
    """Make a loss depend on tensors without changing it: they get a gradient of 0.

    Args:
        loss: A scalar.
        anchors: Any tensors.
        at_end: Called when the backward pass has gone through the graph, before FSDP2 reduces the
            gradients that are left then.

    Returns:
        The loss.
    """
    function: Callable[..., Tensor] = _Anchored.apply
    return function(at_end, loss, *anchors)


class _Anchored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, at_end: Callable[[], None], loss: Tensor, *anchors: Tensor) -> Tensor:
        ctx.at_end = at_end
        ctx.like = [(anchor.shape, anchor.dtype, anchor.device) for anchor in anchors]
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # First among the nodes, so its callback runs before FSDP2's. Zeros of one element seen as
        # many cost no memory.
        torch.autograd.Variable._execution_engine.queue_callback(ctx.at_end)
        zeros = (torch.zeros((), dtype=t, device=d).expand(shape) for shape, t, d in ctx.like)
        return None, gradients[0], *zeros
