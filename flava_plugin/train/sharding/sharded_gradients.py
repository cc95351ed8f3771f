"""``fairscale_sdp``: optimiser state and gradients spread over ranks by FairScale (ZeRO-2).

During the last micro-batch's backward pass ShardedDataParallel sums each gradient to the owner of
its parameter and drops it elsewhere.

- Without its buckets (``reduce_buffer_size=0``): these would keep whole gradients on every rank,
  lose them when ``zero_grad`` sets them to None (torch 2.0 on), and give an idle parameter zeros
  instead of None, so that it decayed.
- With non-reentrant activation checkpointing only, which the learner's is: with the other kind a
  layer called twice would be summed after its first contribution.
- Earlier micro-batches add to whole gradients on each rank. Summing after each of them would divide
  what the owner already has once more.
- Where the last backward pass does not reach the same parameters on every rank, gradients are
  summed after it and in a fixed order, instead of each as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flava_plugin.sections import OptimSection
from flava_plugin.train.layer_rates import layer_rates
from flava_plugin.train.optim import adamw
from flava_plugin.train.pieces import Piece, Source
from flava_plugin.train.sharding.averaging import copy_from_first
from flava_plugin.train.sharding.fairscale_parts import ShardedDataParallel
from flava_plugin.train.sharding.graph import reached
from flava_plugin.train.sharding.saved_shards import load_model
from flava_plugin.train.sharding.sharded_optimizer import (
    load_owned,
    owned,
    owner_pieces,
    sharded_adamw,
)
from flava_plugin.train.sharding.shards import Held, Shard, clip_shards
from flava_plugin.train.world import World


class ShardedGradients:
    """A copy of the learner on each rank; gradients and optimiser state only at their owner.

    One process has nothing to share out and runs as under ``none``.

    Args:
        learner: Moved to the world's device; copies start as rank 0's.
        optim: The recipe's ``optim``.
        world: This process's place.

    Attributes:
        module: The learner, within FairScale's wrapper where there are several ranks.
        optimizer: OSS over AdamW; plain AdamW in one process.
        world: This process's place.
        whole: Every rank's learner is all there.
    """

    whole = True

    def __init__(self, learner: nn.Module, optim: OptimSection, world: World) -> None:
        self.world = world
        rates = layer_rates(learner, optim.layer_decay)
        self.module: nn.Module = learner.to(world.device)
        self._wrapper: Any = None
        self._synced = True
        self._has_local = False  # gradients of this rank only, from earlier micro-batches
        if world.size > 1:
            copy_from_first(learner)
        self._held = Held.of_replica(learner)
        build = sharded_adamw if world.size > 1 else torch.optim.AdamW
        self.optimizer: torch.optim.Optimizer = adamw(
            self._held.listed(), optim, build, rates=rates
        )
        self._owned = owned(self._held, self.optimizer)
        if world.size > 1:
            self._wrapper = ShardedDataParallel(
                learner,
                self.optimizer,
                broadcast_buffers=False,  # they are constants
                sync_models_at_startup=False,  # it would leave out what is not in the state
                reduce_buffer_size=0,
                auto_refresh_trainable=False,  # nothing is frozen in the middle of a run
            )
            # Else the first forward does it, and a forward without gradients does it in vain.
            self._wrapper.refresh_trainable()
            self._places = {p: i for i, p in enumerate(self._wrapper._trainable_params)}
            self.module = self._wrapper

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All trainable parameters by the learner's own names, as every rank holds them."""
        return self._held.named()

    def zero_grad(self) -> None:
        """Drop every gradient, so that a parameter the step does not reach is not updated."""
        self.optimizer.zero_grad(set_to_none=True)
        self._has_local = False

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Forward and backward in here add to this rank's gradients only."""
        self._synced = False
        try:
            yield
        finally:
            self._synced = True

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients; outside ``no_sync`` owners then have their averages over ranks.

        Args:
            loss: A scalar that derives from outputs of ``module``.
        """
        if self.world.size == 1:
            torch.autograd.backward(loss)
            return
        alike = self._synced and self._reaches_the_same(loss)
        with nullcontext() if alike else self._wrapper.no_sync():  # only the backward pass asks
            torch.autograd.backward(loss)
        self._has_local |= not alike
        if self._synced and self._has_local:
            self._sum_the_rest()

    def clip_grad_norm(self, largest: float | None, *, loss_scale: float = 1.0) -> Tensor:
        """Undo the loss's scale and bring the gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.
            loss_scale: What the loss was multiplied by.

        Returns:
            The norm before clipping, a scalar.
        """
        self._held.unscale(loss_scale)
        return clip_shards(self._owned, largest, self.world)

    def owned(self) -> list[Shard]:
        """The parameters whose gradient and state this rank holds."""
        return list(self._owned)

    def step(self) -> None:
        """Update this rank's parameters that have a gradient, and exchange them all."""
        self.optimizer.step()

    def pieces(self, *, spread: bool) -> tuple[list[Piece], list[Piece]]:
        """Copy this rank's part of the weights and of the optimiser's state to the CPU.

        Args:
            spread: Whether ranks share the work of the weights, which all of them hold.

        Returns:
            Pieces of the model and of the optimiser.
        """
        return owner_pieces(self._held, self.optimizer, self.world, spread=spread)

    def load_model(self, source: Source) -> None:
        """Take over saved weights.

        Args:
            source: Parameters and buffers by the learner's own names.
        """
        load_model(self._held, source)

    def load_optimizer(self, source: Source) -> None:
        """Take over saved optimiser state.

        Args:
            source: By ``<parameter>.<kind>``.
        """
        load_owned(self._held, self.optimizer, source)

    def _reaches_the_same(self, loss: Tensor) -> bool:
        parameters = [parameter for _, parameter in self._held.named()]
        ranks = self.world.sum_over_ranks(reached(parameters, loss)).tolist()
        return all(count in (0, self.world.size) for count in ranks)

    @torch.no_grad()
    def _sum_the_rest(self) -> None:
        """Average what some rank has a gradient of that was not summed in the backward pass."""
        summed = [not flag for flag in self._wrapper._grad_to_be_reduced]
        waiting = [p for _, p in self._held.named() if not summed[self._places[p]]]
        used = torch.tensor([p.grad is not None for p in waiting], dtype=torch.int32)
        ranks = self.world.sum_over_ranks(used).tolist()
        for parameter, count in zip(waiting, ranks, strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            owner = self._wrapper._trainable_param_to_rank[parameter]
            parameter.grad /= self.world.size
            dist.reduce(parameter.grad, owner)
            if owner != self.world.rank:
                parameter.grad = None
