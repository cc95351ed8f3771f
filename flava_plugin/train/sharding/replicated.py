"""Every rank holds the whole model: ``none`` in one process, ``ddp`` in several.

Before torch 2.4 DDP leaves apart the gradients of a parameter that was used in an earlier
micro-batch and not in the last one; there they are averaged after the backward pass, not during it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flava_plugin.sections import OptimSection
from flava_plugin.train.optim import adamw
from flava_plugin.train.sharding import OptimizerState
from flava_plugin.train.sharding.averaging import average_gradients, copy_from_first
from flava_plugin.train.world import World

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))

KINDS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW remembers of a parameter."""


class Replicated:
    """A learner on one rank, or a copy of it on each with averaged gradients.

    Args:
        learner: Moved to the world's device; copies start as rank 0's.
        optim: The recipe's ``optim``.
        world: This process's place.

    Attributes:
        module: The learner, within torch's DDP where there are several ranks.
        optimizer: AdamW over the trainable parameters.
    """

    def __init__(self, learner: nn.Module, optim: OptimSection, world: World) -> None:
        self._learner = learner.to(world.device)
        self.module: nn.Module = self._learner
        self._by_hand = world.size > 1 and TORCH < (2, 4)
        self._averages = self._by_hand
        if self._by_hand:
            copy_from_first(self._learner)
        elif world.size > 1:
            # A step of one modality leaves the others' parameters without gradient, which only
            # this search finds out. Buffers are constants: sending them anew would cost time.
            self.module = DistributedDataParallel(
                self._learner, find_unused_parameters=True, broadcast_buffers=False
            )
        self.optimizer: torch.optim.Optimizer = adamw(self._learner, optim)

    def zero_grad(self) -> None:
        """Drop every gradient, so that a parameter the step does not reach is not updated."""
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Forward and backward in here add to this rank's gradients only."""
        module = self.module
        waiting = module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
        self._averages = False
        try:
            with waiting:
                yield
        finally:
            self._averages = self._by_hand

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients; over ranks they are averaged.

        Args:
            loss: A scalar that derives from outputs of ``module``.
        """
        torch.autograd.backward(loss)
        if self._averages:
            average_gradients(self._learner)

    def clip_grad_norm(self, largest: float | None) -> Tensor:
        """Scale all gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.

        Returns:
            The norm before clipping, a scalar.
        """
        bound = math.inf if largest is None else largest
        return torch.nn.utils.clip_grad_norm_(self._learner.parameters(), bound)

    def step(self) -> None:
        """Update the parameters that have a gradient."""
        self.optimizer.step()

    def full_state(self) -> dict[str, Tensor]:
        """Copy parameters and buffers by the learner's own names to the CPU."""
        state = self._learner.state_dict()
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}

    def load_full_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what ``full_state`` gave.

        Args:
            state: Tensors by name.

        Raises:
            ValueError: Names or shapes differ; each is listed.
        """
        own = self._learner.state_dict()
        faults = [f"{name} is missing" for name in own if name not in state]
        faults += [f"{name} is unknown to this model" for name in state if name not in own]
        faults += _shape_faults(own, state)
        _refuse(faults, "weights")
        self._learner.load_state_dict(dict(state))

    def optimizer_state(self) -> OptimizerState:
        """Copy the optimiser's state to the CPU; parameters never updated have none."""
        found: OptimizerState = {}
        for name, parameter in self._trainable().items():
            if parameter in self.optimizer.state:
                kinds = self.optimizer.state[parameter]
                found[name] = {kind: kinds[kind].detach().to("cpu", copy=True) for kind in KINDS}
        return found

    def load_optimizer_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over what ``optimizer_state`` gave; parameters it does not name start afresh.

        Args:
            state: State by parameter name.

        Raises:
            ValueError: It does not fit the trainable parameters; each fault is listed.
        """
        own = self._trainable()
        faults = [f"{name} is no trainable parameter" for name in state if name not in own]
        for name, kinds in state.items():
            if set(kinds) != set(KINDS):
                faults.append(f"{name} has {sorted(kinds)}, not {sorted(KINDS)}")
            elif name in own:
                moments = {f"{name}.{kind}": kinds[kind] for kind in KINDS[1:]}
                faults += _shape_faults(dict.fromkeys(moments, own[name]), moments)
        _refuse(faults, "optimiser state")
        names = {id(parameter): name for name, parameter in own.items()}
        packed = self.optimizer.state_dict()
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        packed["state"] = {
            index: {kind: tensor.clone() for kind, tensor in state[names[id(parameter)]].items()}
            for index, parameter in enumerate(order)
            if names[id(parameter)] in state
        }
        self.optimizer.load_state_dict(packed)

    def _trainable(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self._learner.named_parameters() if p.requires_grad}


def _shape_faults(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} is {tuple(state[name].shape)}, here {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]


def _refuse(faults: list[str], what: str) -> None:
    if faults:
        raise ValueError(
            f"the saved {what} do not fit this recipe's model:\n  "
            + "\n  ".join(faults)
            + "\nresume with the recipe the checkpoint was written with"
        )
