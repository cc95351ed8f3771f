"""The whole state of a sharded run on one rank, and back: for checkpoints, evaluation and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flava_plugin.train.pieces import Piece, Whole, assemble, by_parameter, flat_names
from flava_plugin.train.sharding import OptimizerState, Strategy
from flava_plugin.train.world import World


def full_state(strategy: Strategy) -> dict[str, Tensor]:
    """Bring parameters and buffers to rank 0; every rank takes part.

    Args:
        strategy: Holds the learner.

    Returns:
        Whole tensors on the CPU by the learner's own names; on other ranks nothing.
    """
    return gather(strategy.pieces(spread=False)[0], strategy.world)


def optimizer_state(strategy: Strategy) -> OptimizerState:
    """Bring the optimiser's state to rank 0; every rank takes part.

    Args:
        strategy: Holds the optimiser.

    Returns:
        By parameter and kind; parameters never updated have none. On other ranks nothing.
    """
    return by_parameter(gather(strategy.pieces(spread=False)[1], strategy.world))


def load_full_state(strategy: Strategy, state: Mapping[str, Tensor]) -> None:
    """Give a strategy whole weights, saved under any strategy and number of ranks.

    Args:
        strategy: Takes this rank's part.
        state: Tensors by name.
    """
    strategy.load_model(Whole(state))


def load_optimizer_state(strategy: Strategy, state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Give a strategy a whole optimiser state, saved under any strategy and number of ranks.

    Args:
        strategy: Takes this rank's part.
        state: By parameter and kind.
    """
    strategy.load_optimizer(Whole(flat_names(state)))


def gather(pieces: Sequence[Piece], world: World) -> dict[str, Tensor]:
    """Put the pieces of all ranks together on rank 0.

    Args:
        pieces: This rank's, on the CPU.
        world: All ranks take part.

    Returns:
        Whole tensors by name; on other ranks nothing.
    """
    if world.size == 1:
        return assemble(pieces)
    own = [(p.name, p.shape, p.start, len(p.values), p.values.dtype) for p in pieces]
    lists: list[Any] = [None] * world.size
    dist.all_gather_object(lists, own)
    if world.rank:
        for piece in pieces:  # from CPU to CPU: NCCL would make a communicator for every pair
            dist.send(piece.values, 0)
        return {}
    return assemble(chain(pieces, _received(lists[1:])))


def _received(lists: Sequence[Any]) -> Iterator[Piece]:
    """Take the other ranks' pieces, each as it is asked for: two copies of all would not fit."""
    for rank, entries in enumerate(lists, start=1):
        for name, shape, start, count, dtype in entries:
            values = torch.empty(count, dtype=dtype)
            dist.recv(values, rank)
            yield Piece(name, shape, start, values)
