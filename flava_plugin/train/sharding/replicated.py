"""Every rank holds the whole model: ``none`` in one process, ``ddp`` in several.

Before torch 2.4 DDP leaves apart the gradients of a parameter that was used in an earlier
micro-batch and not in the last one; there they are averaged after the backward pass, not during it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flava_plugin.sections import OptimSection
from flava_plugin.train.layer_rates import layer_rates
from flava_plugin.train.optim import adamw
from flava_plugin.train.pieces import Piece, Source
from flava_plugin.train.sharding.averaging import average_gradients, copy_from_first
from flava_plugin.train.sharding.saved_shards import (
    load_model,
    load_optimizer,
    model_pieces,
    optimizer_pieces,
)
from flava_plugin.train.sharding.shards import Held, Shard, shared_out
from flava_plugin.train.world import World

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


class Replicated:
    """A learner on one rank, or a copy of it on each with averaged gradients.

    Args:
        learner: Moved to the world's device; copies start as rank 0's.
        optim: The recipe's ``optim``.
        world: This process's place.
        build: Makes AdamW from parameter groups and options; for one whose state is sharded.

    Attributes:
        module: The learner, within torch's DDP where there are several ranks.
        optimizer: AdamW over the trainable parameters.
        world: This process's place.
        whole: Every rank's learner is all there.
        held: All parameters and buffers.
    """

    whole = True

    def __init__(
        self,
        learner: nn.Module,
        optim: OptimSection,
        world: World,
        build: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    ) -> None:
        self.world = world
        rates = layer_rates(learner, optim.layer_decay)
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
        self.held = Held.of_replica(self._learner)
        self.optimizer: torch.optim.Optimizer = adamw(self.held.listed(), optim, build, rates=rates)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What this rank updates, by the learner's own names."""
        return self.held.named()

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

    def clip_grad_norm(self, largest: float | None, *, loss_scale: float = 1.0) -> Tensor:
        """Undo the loss's scale and bring the gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.
            loss_scale: What the loss was multiplied by.

        Returns:
            The norm before clipping, a scalar.
        """
        self.held.unscale(loss_scale)
        bound = math.inf if largest is None else largest
        return torch.nn.utils.clip_grad_norm_(self._learner.parameters(), bound)

    def owned(self) -> list[Shard]:
        """Every rank's turn of the parameters, which all of them hold."""
        return shared_out(self.held.trained, self.world)

    def step(self) -> None:
        """Update the parameters that have a gradient."""
        self.optimizer.step()

    def pieces(self, *, spread: bool) -> tuple[list[Piece], list[Piece]]:
        """Copy this rank's part of the weights and of the optimiser's state to the CPU.

        Args:
            spread: Whether ranks share the work of what all of them hold.

        Returns:
            Pieces of the model and of the optimiser.
        """
        optimizer = optimizer_pieces(
            self.held.trained, self.optimizer.state, self.world, spread=spread
        )
        return model_pieces(self.held, self.world, spread=spread), optimizer

    def load_model(self, source: Source) -> None:
        """Take over saved weights.

        Args:
            source: Parameters and buffers by the learner's own names.
        """
        load_model(self.held, source)

    def load_optimizer(self, source: Source) -> None:
        """Take over saved optimiser state.

        Args:
            source: By ``<parameter>.<kind>``.
        """
        load_optimizer(self.optimizer, self.held.trained, self.held, source)
