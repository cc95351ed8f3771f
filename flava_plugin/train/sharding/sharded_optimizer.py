"""``ddp_oss``: DDP, with AdamW's state spread over ranks by FairScale's OSS (ZeRO-1).

Every parameter has an owner. All ranks have all averaged gradients; the owner updates, and sends
the new value to the others.

OSS's own ways of bringing the state together are not used: they need every rank to hold all of it,
and OSS's norm keeps the list of parameters that had a gradient in the first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from flava_plugin.sections import OptimSection
from flava_plugin.train.pieces import Piece, Source
from flava_plugin.train.sharding.fairscale_parts import OSS
from flava_plugin.train.sharding.replicated import Replicated
from flava_plugin.train.sharding.saved_shards import load_optimizer, model_pieces, optimizer_pieces
from flava_plugin.train.sharding.shards import Held, Shard
from flava_plugin.train.world import World

sharded_adamw = partial(OSS, optim=torch.optim.AdamW)
"""Takes parameter groups and AdamW's options; needs a process group."""


class ShardedOptimizer:
    """A copy of the learner on each rank with averaged gradients; optimiser state sharded.

    One process has nothing to share out and runs as under ``none``.

    Args:
        learner: Moved to the world's device; copies start as rank 0's.
        optim: The recipe's ``optim``.
        world: This process's place.

    Attributes:
        module: The learner, within torch's DDP where there are several ranks.
        optimizer: OSS over AdamW; plain AdamW in one process.
        world: This process's place.
        whole: Every rank's learner is all there.
    """

    whole = True

    def __init__(self, learner: nn.Module, optim: OptimSection, world: World) -> None:
        build = sharded_adamw if world.size > 1 else torch.optim.AdamW
        self._replica = Replicated(learner, optim, world, build)
        self.module = self._replica.module
        self.optimizer = self._replica.optimizer
        self.world = world

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All trainable parameters by the learner's own names, as every rank holds them."""
        return self._replica.parameters()

    def zero_grad(self) -> None:
        """Drop every gradient, so that a parameter the step does not reach is not updated."""
        self._replica.zero_grad()

    def no_sync(self) -> AbstractContextManager[None]:
        """Forward and backward in here add to this rank's gradients only."""
        return self._replica.no_sync()

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients; over ranks they are averaged.

        Args:
            loss: A scalar that derives from outputs of ``module``.
        """
        self._replica.backward(loss)

    def clip_grad_norm(self, largest: float | None, *, loss_scale: float = 1.0) -> Tensor:
        """Undo the loss's scale and bring the gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.
            loss_scale: What the loss was multiplied by.

        Returns:
            The norm before clipping, a scalar.
        """
        return self._replica.clip_grad_norm(largest, loss_scale=loss_scale)

    def owned(self) -> list[Shard]:
        """The parameters whose state this rank holds; all ranks hold their gradients."""
        return owned(self._replica.held, self.optimizer)

    def step(self) -> None:
        """Update this rank's parameters that have a gradient, and exchange them all."""
        self._replica.step()

    def pieces(self, *, spread: bool) -> tuple[list[Piece], list[Piece]]:
        """Copy this rank's part of the weights and of the optimiser's state to the CPU.

        Args:
            spread: Whether ranks share the work of the weights, which all of them hold.

        Returns:
            Pieces of the model and of the optimiser.
        """
        return owner_pieces(self._replica.held, self.optimizer, self.world, spread=spread)

    def load_model(self, source: Source) -> None:
        """Take over saved weights.

        Args:
            source: Parameters and buffers by the learner's own names.
        """
        self._replica.load_model(source)

    def load_optimizer(self, source: Source) -> None:
        """Take over saved optimiser state.

        Args:
            source: By ``<parameter>.<kind>``.
        """
        load_owned(self._replica.held, self.optimizer, source)


def inner(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The AdamW that updates this rank's parameters.

    Args:
        optimizer: OSS, or AdamW itself.

    Returns:
        AdamW, with the state of these parameters.
    """
    own: torch.optim.Optimizer = getattr(optimizer, "optim", optimizer)
    return own


def owned(held: Held, optimizer: torch.optim.Optimizer) -> list[Shard]:
    """What this rank updates.

    Args:
        held: A whole learner.
        optimizer: OSS, or AdamW in one process.

    Returns:
        The parameters it owns, which no other rank does.
    """
    own = {id(p) for group in inner(optimizer).param_groups for p in group["params"]}
    return [Shard(s.name, s.shape, 0, s.value, False) for s in held.trained if id(s.value) in own]


def owner_pieces(
    held: Held, optimizer: torch.optim.Optimizer, world: World, *, spread: bool
) -> tuple[list[Piece], list[Piece]]:
    """Copy whole weights and the owned parameters' state to the CPU; see ``Strategy.pieces``.

    Args:
        held: A whole learner.
        optimizer: OSS, or AdamW in one process.
        world: This process's place.
        spread: Whether ranks share the work of the weights.

    Returns:
        Pieces of the model and of the optimiser.
    """
    state = optimizer_pieces(owned(held, optimizer), inner(optimizer).state, world, spread=spread)
    return model_pieces(held, world, spread=spread), state


def load_owned(held: Held, optimizer: torch.optim.Optimizer, source: Source) -> None:
    """Take over the owned parameters' saved state.

    Args:
        held: A whole learner.
        optimizer: OSS, or AdamW in one process.
        source: By ``<parameter>.<kind>``.
    """
    load_optimizer(inner(optimizer), owned(held, optimizer), held, source)
