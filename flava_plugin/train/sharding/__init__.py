"""How parameters, gradients and optimiser state lie over ranks: one interface for all strategies.

The step and the loop see only ``Strategy``; what a checkpoint holds is the same under each.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.world import World

OptimizerState = dict[str, dict[str, Tensor]]
"""By parameter name: ``step`` (scalar), ``exp_avg`` and ``exp_avg_sq`` (the parameter's shape)."""


class Strategy(Protocol):
    """A learner prepared for training.

    Attributes:
        module: What the step calls; takes and returns what the learner does.
        optimizer: Holds the parameter groups whose learning rate the loop sets.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def zero_grad(self) -> None:
        """Drop every gradient, so that a parameter the step does not reach is not updated."""
        ...

    def no_sync(self) -> AbstractContextManager[None]:
        """Accumulate: a forward and backward in here add to this rank's gradients only.

        The next backward outside joins the ranks, earlier ones included.
        """
        ...

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients; over ranks they are averaged.

        Args:
            loss: A scalar that derives from outputs of ``module``.
        """
        ...

    def clip_grad_norm(self, largest: float | None) -> Tensor:
        """Scale all gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.

        Returns:
            The norm before clipping, a scalar, the same on every rank.
        """
        ...

    def step(self) -> None:
        """Update the parameters that have a gradient."""
        ...

    def full_state(self) -> dict[str, Tensor]:
        """Copy parameters and buffers, whole and by the learner's own names, to the CPU."""
        ...

    def load_full_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what ``full_state`` gave, under any strategy and number of ranks.

        Args:
            state: Tensors by name.

        Raises:
            ValueError: Names or shapes differ; each is listed.
        """
        ...

    def optimizer_state(self) -> OptimizerState:
        """Copy the optimiser's state to the CPU; parameters never updated have none."""
        ...

    def load_optimizer_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over what ``optimizer_state`` gave, under any strategy and number of ranks.

        Args:
            state: State by parameter name.

        Raises:
            ValueError: It does not fit the trainable parameters; each fault is listed.
        """
        ...


def make_strategy(
    section: ShardingSection, learner: nn.Module, optim: OptimSection, world: World
) -> Strategy:
    """Prepare a learner for training.

    Args:
        section: The recipe's ``sharding``.
        learner: Moved to the world's device in place; every rank's becomes a copy of rank 0's.
        optim: The recipe's ``optim``.
        world: This process's place.

    Returns:
        The strategy.

    Raises:
        ValueError: The strategy cannot run on this many ranks.
    """
    from flava_plugin.train.sharding.replicated import Replicated

    if section.strategy == "none" and world.size > 1:
        raise ValueError(
            f"sharding.strategy: 'none' is for one process, and {world.size} would "
            "train apart from each other; use sharding.strategy=ddp"
        )
    return Replicated(learner, optim, world)
