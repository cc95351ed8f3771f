"""What a backward pass reached, brought to the same on every rank.

FSDP2 gathers and reduces from within the forward and backward pass: it sends what this rank's graph
happens to use, and ranks that do not use the same wait for each other or mix up what they get.
Where a head sees no row of its kind on one rank, that is so. Three things keep ranks together:

- an encoder, projection or head whose output the loss does not depend on gets a gradient of 0, so
  that its backward pass runs all the same;
- a parameter of a unit that was called, but got no gradient, gets zeros before they are reduced;
- after the pass ranks tell each other which parameters had a gradient that was none of these
  zeros. Those without on all ranks are left without, so that no optimiser moves them.

FSDP2 also finds tensors only in what pytree knows. Where an output is of another class it lets go
of a unit's parameters too early, or trains nothing. So between two hooks of ours, one before that
of FSDP2 and one after it, an output is a tuple that pytree does look into.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from flava_plugin.train.sharding.graph import anchored, leaves_in, nodes_of
from flava_plugin.train.sharding.outputs import tensors_in
from flava_plugin.train.sharding.units import Unit
from flava_plugin.train.world import World

_ASIDE: Callable[[Any], Any] = cast(Any, torch.compiler).disable
"""Compiled layers run these hooks as they are, as they do FSDP2's own."""


@dataclass
class _Watched:
    """A unit during a step.

    Attributes:
        number: Its own.
        trained: Its gathered parameters, which receive the gradient, by name.
        pending: Whether it was called, or its backward pass begun, and not reduced since.
    """

    number: int
    trained: dict[str, nn.Parameter]
    pending: bool = False


class _Hidden(NamedTuple):
    """An output of any class, between the hooks before and after FSDP2's.

    Attributes:
        tensors: Those in it, which FSDP2 finds here.
        output: Returns it; a function, as pytree does not look into one.
    """

    tensors: list[Tensor]
    output: Callable[[], Any]


class Reach:
    """Keeps ranks together during a step.

    Args:
        world: All ranks take part.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._units: list[_Watched] = []
        self._used: set[str] = set()
        self._calls = array("H")
        self._outputs: list[list[Tensor]] = []  # of each call of an encoder, projection or head
        self._real: set[int] | None = None
        self._backward = False

    @staticmethod
    def show_outputs(module: nn.Module) -> None:
        """Have FSDP2 see the tensors in what a module returns; to be called before it is sharded.

        Args:
            module: A unit's.
        """
        module.register_forward_hook(_ASIDE(_hide))

    def watch(self, unit: Unit, gathered: Mapping[str, nn.Parameter]) -> None:
        """Follow a unit's calls; to be called after it is sharded.

        Args:
            unit: The unit.
            gathered: Its parameters as they are during a pass.
        """
        trained = {name: p for name, p in gathered.items() if p.requires_grad}
        watched = _Watched(len(self._units), trained)
        self._units.append(watched)
        for name, parameter in trained.items():
            hooked = cast(Any, parameter)
            hooked.register_post_accumulate_grad_hook(partial(self._mark, name))

        def called(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._backward:  # computed anew, for activation checkpointing
                return
            self._calls.append(watched.number)
            if torch.is_grad_enabled():
                watched.pending = True
                # FSDP2 reduces when the gradients of a unit's inputs are there. Its own hook came
                # first, so what is hooked here is what that gave to the module.
                for tensor in _differentiable(tree_leaves((args, kwargs))):
                    tensor.register_hook(lambda _: _fill(watched))

        def returned(module: nn.Module, args: Any, output: Any) -> Any:
            shown = output.tensors if isinstance(output, _Hidden) else [output]
            result = output.output() if isinstance(output, _Hidden) else output
            if torch.is_grad_enabled() and not self._backward:
                tensors = list(_differentiable(shown))
                for tensor in tensors:
                    tensor.register_hook(lambda _: _begin(watched))
                if unit.kind in ("encoder", "head"):
                    self._outputs.append(tensors)
            return result

        unit.module.register_forward_pre_hook(_ASIDE(called), with_kwargs=True)
        unit.module.register_forward_hook(_ASIDE(returned))

    def _mark(self, name: str, parameter: Tensor) -> None:
        if self._real is None or id(parameter) in self._real:
            self._used.add(name)

    def restart(self) -> None:
        """Begin a step."""
        self._used.clear()
        self._outputs.clear()
        for unit in self._units:
            unit.pending = False

    def backward(self, loss: Tensor) -> None:
        """Run a backward pass that reaches the same units on every rank.

        Args:
            loss: A scalar.

        Raises:
            RuntimeError: A parameter was used in a way that FSDP2 does not see.
        """
        nodes = nodes_of(loss)
        calls, self._outputs = self._outputs, []
        missed = [call for call in calls if not any(t.grad_fn in nodes for t in call)]
        anchors = [tensor for call in missed for tensor in call]
        self._real = leaves_in(nodes) if anchors else None
        self._backward = True
        try:
            torch.autograd.backward(anchored(loss, anchors, self._fill_pending))
        finally:
            self._backward = False
        late = [n for u in self._units for n, p in u.trained.items() if p.grad is not None]
        if late:
            raise RuntimeError(
                f"fsdp2 had reduced the gradients of {', '.join(late)} when more came: these "
                "parameters are used outside the forward pass of their module, or it returns a "
                "function that holds tensors; use sharding.strategy=ddp_oss or fairscale_sdp"
            )

    def _fill_pending(self) -> None:
        for unit in self._units:
            if unit.pending:
                _fill(unit)

    def agree(self, scalars: Mapping[str, nn.Parameter]) -> set[str]:
        """Find out what the step reached on any rank.

        Args:
            scalars: Parameters that are not sharded, by name.

        Returns:
            Names of parameters, the same on every rank.

        Raises:
            RuntimeError: Ranks called units in different orders, so that each computed with
                parameters of another unit.
        """
        used = self._used | {name for name, p in scalars.items() if p.grad is not None}
        names = [name for unit in self._units for name in unit.trained] + list(scalars)
        calls, self._calls = zlib.crc32(self._calls.tobytes()), array("H")
        if self._world.size == 1:
            return used
        flags = [int(name in used) for name in names] + [calls, -calls]
        table = torch.tensor(flags, device=self._world.device)
        dist.all_reduce(table, op=dist.ReduceOp.MAX)
        *found, largest, smallest = table.tolist()
        if largest != -smallest:
            raise RuntimeError(
                "ranks called layers or heads in different orders, and so gathered parameters "
                "of different ones: fsdp2 needs a model that calls the same modules on every rank, "
                "whatever the rows; use sharding.strategy=ddp_oss or fairscale_sdp"
            )
        return {name for name, flag in zip(names, found, strict=True) if flag}


def _begin(unit: _Watched) -> None:
    unit.pending = True


def _fill(unit: _Watched) -> None:
    """Give zeros to the unit's parameters without a gradient, so that all ranks reduce them all."""
    unit.pending = False
    for parameter in unit.trained.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _differentiable(leaves: Iterable[Any]) -> Iterator[Any]:
    return (leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad)


def _hide(module: nn.Module, args: Any, output: Any) -> _Hidden | None:
    if output is None or isinstance(output, Tensor):
        return None
    return _Hidden(tensors_in(output)[0], lambda: output)
