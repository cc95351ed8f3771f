"""How parameters, gradients and optimiser state lie over ranks: one interface for all strategies.

The step and the loop see only ``Strategy``; what a checkpoint holds is the same under each.

==================  =======================  =======================================================
Strategy            File                     With
==================  =======================  =======================================================
``none``, ``ddp``   replicated.py            averaging.py, where DDP is not used
``ddp_oss``         sharded_optimizer.py     fairscale_parts.py, the one file that imports FairScale
``fairscale_sdp``   sharded_gradients.py     the same; graph.py: what a loss depends on
``fairscale_fsdp``  fairscale_fsdp.py        units.py, flat_unit.py, flat_ranges.py; graph.py
``fsdp2``           fsdp2.py                 units.py; reach.py: what keeps ranks together; graph.py
==================  =======================  =======================================================

A new strategy is a class with the methods of ``Strategy``, a line in ``make_strategy`` and its name
in ``sections.ShardingSection``. It describes what a rank holds as ``Held`` (shards.py): parts of
parameters, as plain tensors that an ordinary AdamW updates. Norms (shards.py) and checkpoints
(saved_shards.py, whole.py) then need nothing more. tests/distributed/test_strategies.py says what
has to hold of it, once its name stands there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.pieces import Piece, Source
from flava_plugin.train.sharding.shards import Shard
from flava_plugin.train.world import World, require_group

OptimizerState = dict[str, dict[str, Tensor]]
"""By parameter name: ``step`` (scalar), ``exp_avg`` and ``exp_avg_sq`` (the parameter's shape)."""


class Strategy(Protocol):
    """A learner prepared for training.

    Attributes:
        module: What the step calls; takes and returns what the learner does.
        optimizer: Holds the parameter groups whose learning rate the loop sets.
        world: This process's place.
        whole: Whether the learner of every rank is all there, so that it can be used as it is.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    world: World
    whole: bool

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What this rank updates, by the learner's own names; possibly a part of a parameter."""
        ...

    def zero_grad(self) -> None:
        """Drop every gradient, so that a parameter the step does not reach is not updated."""
        ...

    def no_sync(self) -> AbstractContextManager[None]:
        """Accumulate: a forward and backward in here add to the gradients.

        Only after a backward outside are they those of all ranks.
        """
        ...

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients; over ranks they are averaged.

        Args:
            loss: A scalar that derives from outputs of ``module``.
        """
        ...

    def clip_grad_norm(self, largest: float | None, *, loss_scale: float = 1.0) -> Tensor:
        """Undo the loss's scale and bring the gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.
            loss_scale: What the loss was multiplied by.

        Returns:
            The norm before clipping, a scalar, the same on every rank.
        """
        ...

    def owned(self) -> list[Shard]:
        """List parts of parameters that, over all ranks, are every trained parameter once.

        After a backward outside ``no_sync`` their gradients are final, and that of one which no
        rank reached is None. So sums over parameters are sums over these parts and over ranks.
        """
        ...

    def step(self) -> None:
        """Update the parameters that have a gradient on some rank."""
        ...

    def pieces(self, *, spread: bool) -> tuple[list[Piece], list[Piece]]:
        """Copy this rank's part of the weights and of the optimiser's state to the CPU.

        Args:
            spread: Whether ranks share the work of what all of them hold; otherwise rank 0 has it.

        Returns:
            Pieces of the model (parameters and buffers, by the learner's own names) and of the
            optimiser (``<parameter>.<kind>``, of parameters that were updated). Those of all
            ranks do not overlap and make a whole.
        """
        ...

    def load_model(self, source: Source) -> None:
        """Take over weights saved under any strategy and number of ranks.

        Args:
            source: Parameters and buffers by the learner's own names.

        Raises:
            ValueError: Names or shapes differ; each is listed.
        """
        ...

    def load_optimizer(self, source: Source) -> None:
        """Take over optimiser state saved under any strategy and number of ranks.

        Args:
            source: By ``<parameter>.<kind>``; parameters it does not name start afresh.

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
    name = section.strategy
    if name == "none":
        if world.size > 1:
            raise ValueError(
                f"sharding.strategy: 'none' is for one process, and {world.size} would "
                "train apart from each other; use sharding.strategy=ddp"
            )
        name = "ddp"
    if name == "ddp":
        from flava_plugin.train.sharding.replicated import Replicated

        return Replicated(learner, optim, world)
    require_group(world)
    if name == "ddp_oss":
        from flava_plugin.train.sharding.sharded_optimizer import ShardedOptimizer

        return ShardedOptimizer(learner, optim, world)
    if name == "fairscale_sdp":
        from flava_plugin.train.sharding.sharded_gradients import ShardedGradients

        return ShardedGradients(learner, optim, world)
    if name == "fairscale_fsdp":
        from flava_plugin.train.sharding.fairscale_fsdp import FairScaleFSDP

        return FairScaleFSDP(learner, optim, world)
    from flava_plugin.train.sharding.fsdp2 import FSDP2

    return FSDP2(learner, optim, world)
