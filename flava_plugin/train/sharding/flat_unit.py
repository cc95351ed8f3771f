"""A part of a learner whose parameters FairScale keeps flat, a range of them on each rank.

FairScale's own order of events knows neither a layer that is computed anew in the backward pass by
``torch.utils.checkpoint``, nor an output in which it finds no tensor, nor a unit that a step leaves
idle. So here the strategy says where a backward pass begins and ends, and FairScale does the rest:
flattening, gathering, freeing, and summing gradients to the ranks that hold their range.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flava_plugin.train.sharding.fairscale_parts import FullyShardedDataParallel, TrainingState
from flava_plugin.train.sharding.outputs import tensors_in
from flava_plugin.train.world import World


class Alone:
    """The process group of a single process, for which torch has none."""

    def rank(self) -> int:
        """Number of this process."""
        return 0

    def size(self) -> int:
        """How many there are."""
        return 1


class FlatUnit(FullyShardedDataParallel):  # type: ignore[misc]
    """A module whose trainable parameters are there only while they are used.

    Frozen parameters stay whole on every rank. A module that is not called itself, but whose
    parameters are read from outside, finds no parameters: they exist between the unit's forward
    and the end of its backward pass only.

    Args:
        module: On the world's device, the same on every rank; units inside it keep theirs.
        world: This process's place.
        stays: Whether parameters stay gathered between forward and backward. They have to where
            someone else uses them then: a loss that decodes.

    Attributes:
        reached: Numbers of those of its parameters that received a gradient on this rank.
        outputs: Tensors it returned since the last backward pass, where it has units inside it.
        hides: Whether it returned something that cannot be looked into.
        waits: Whether its gradient is summed at the end of the backward pass and not in it.
        listens: Whether a gradient that comes is one, and not the 0 of ranks that only pass by.
    """

    def __init__(self, module: nn.Module, world: World, *, stays: bool) -> None:
        for parameter in module.parameters():
            if not parameter.requires_grad:
                cast(Any, parameter)._is_sharded = False  # for FairScale: none of its own
        group = dist.group.WORLD if world.size > 1 else Alone()
        super().__init__(
            module,
            process_group=group,
            process_group_reduce_scatter=group,
            compute_device=world.device,
            reshard_after_forward=not stays,
        )
        self.reached: set[int] = set()
        self.outputs: list[Tensor] = []
        self.hides = False
        self.waits = False
        self.listens = True
        self._has_units = len(units_in(self)) > 1
        wrapper = self._fsdp_wrapped_module
        self._make_views = wrapper._unflatten_params_as_views
        wrapper._unflatten_params_as_views = self._watched_views
        self._drop_views()
        for flat in self.params:
            flat.register_post_accumulate_grad_hook(self._sum)

    @property
    def flat(self) -> Any:
        """All its trainable parameters in one row, on this rank its range; None without any."""
        return self.params[0] if self.params else None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Gather the parameters, call the module, and free them unless they stay.

        Args:
            *args: The module's.
            **kwargs: The module's.

        Returns:
            What the module returns.
        """
        if in_backward():  # a checkpointed layer is computed anew, with its backward pass to follow
            self._rebuild_full_params()
            return self.module(*args, **kwargs)
        self._lazy_init()
        self.training_state = TrainingState.FORWARD
        self._rebuild_full_params()
        outputs = self.module(*args, **kwargs)
        tensors, hides = tensors_in(outputs)
        if hides:  # who knows what may still use the parameters
            self.hides, self.reshard_after_forward = True, False
        if self.reshard_after_forward:
            self._free_full_params()
        for tensor in tensors:
            if tensor.requires_grad:
                if self.reshard_after_forward:
                    cast(Any, tensor).register_hook(self._gather)
                elif self._has_units:
                    self.outputs.append(tensor)
        self._use_fp32_param_shard()
        self.training_state = TrainingState.IDLE
        return outputs

    def begin_backward(self) -> None:
        """Get ready for gradients; those that are there are kept and added to."""
        self.training_state = TrainingState.BACKWARD_PRE
        self.outputs.clear()
        for flat in self.params:
            # FairScale tells a rank's range of gradients from whole ones by their number, which
            # says nothing of a unit with a single element.
            if flat._is_sharded and flat.grad is not None:
                flat._saved_grad_shard, flat.grad = flat.grad, None
        if self.has_full_params:
            self._use_full_params()

    def finish_backward(self) -> None:
        """Have all gradients summed, in this unit, which is the root, and in all inside it."""
        units = units_in(self)
        for unit in units:
            if unit.waits and unit.flat is not None:
                if unit.flat.grad is None:
                    unit.flat.grad = torch.zeros_like(unit.flat)
                unit._post_backward_hook(unit.flat)
            unit.waits = False
        for unit in units:
            # What FairScale expects of a unit that was used; those that were idle have no gradient.
            used = TrainingState.BACKWARD_POST if unit.params else TrainingState.BACKWARD_PRE
            unit.training_state = used
            unit.release()
        self._wait_for_post_backward()

    def release(self) -> None:
        """Free gathered parameters; the next forward gathers them as they are then."""
        self._free_full_params()
        self._use_fp32_param_shard()

    def _sum(self, flat: nn.Parameter) -> None:
        if not self.waits:
            self._post_backward_hook(flat)

    def _gather(self, gradient: Tensor) -> None:
        self._rebuild_full_params()

    def _watched_views(self) -> None:
        self._make_views()
        if torch.is_grad_enabled() and not in_backward():
            for index, (_, module, name) in enumerate(self._fsdp_wrapped_module._param_infos):
                view = getattr(module, name)
                if view.requires_grad:
                    view.register_hook(partial(self._note, index))

    def _note(self, index: int, gradient: Tensor | None) -> None:
        if gradient is not None and self.listens:
            self.reached.add(index)

    def _free_full_params(self, params: list[nn.Parameter] | None = None) -> None:
        super()._free_full_params(params)
        self._drop_views()

    def _drop_views(self) -> None:
        # Their memory is gone, and reading it would end the process.
        wrapper = self._fsdp_wrapped_module
        places = [(module, name) for _, module, name in wrapper._param_infos]
        places += [(module, name) for _, _, module, name, _, _ in wrapper._shared_param_infos]
        for module, name in (*places, (wrapper._fpw_module, "_unflattened_param_views")):
            module.__dict__.pop(name, None)

    def _cast_buffers(self, *args: Any, **kwargs: Any) -> None:
        return  # FairScale would turn every floating point buffer into fp32


def units_in(root: nn.Module) -> list[FlatUnit]:
    """List the units of a learner.

    Args:
        root: The outermost unit.

    Returns:
        It and all units inside it, each once.
    """
    return [module for module in root.modules() if isinstance(module, FlatUnit)]


def in_backward() -> bool:
    """Whether this runs inside a backward pass.

    Returns:
        True in a hook or a recomputation that autograd calls.
    """
    return torch._C._current_graph_task_id() != -1
