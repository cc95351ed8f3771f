"""How what a rank holds is cut for a checkpoint, and taken back from one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flava_plugin.train.pieces import Piece, Shape, Source, size_of
from flava_plugin.train.sharding.shards import Held, Shard
from flava_plugin.train.world import World

KINDS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW remembers of a parameter."""


def model_pieces(held: Held, world: World, *, spread: bool) -> list[Piece]:
    """Copy this rank's part of the model to the CPU.

    Args:
        held: What it holds.
        world: This process's place.
        spread: Whether ranks share the work of what all of them hold; otherwise rank 0 has it all.

    Returns:
        Pieces that do not overlap those of other ranks.
    """
    pieces: list[Piece] = []
    for s in held.shards:
        pieces += _cut(s.name, s.shape, s.start, s.value, s.shared, world=world, spread=spread)
    for name, buffer in held.buffers.items():
        pieces += _cut(name, tuple(buffer.shape), 0, buffer, True, world=world, spread=spread)
    return pieces


def optimizer_pieces(
    shards: Iterable[Shard], state: Mapping[Any, Mapping[str, Any]], world: World, *, spread: bool
) -> list[Piece]:
    """Copy this rank's part of AdamW's state to the CPU.

    Args:
        shards: Those this rank has the state of.
        state: The optimiser's ``state``.
        world: This process's place.
        spread: See ``model_pieces``.

    Returns:
        Pieces by ``<parameter>.<kind>``; of parameters never updated there are none.
    """
    pieces: list[Piece] = []
    for shard in shards:
        kinds = state.get(shard.value)
        if not kinds or (shard.value.numel() == 0 and size_of(shard.shape)):
            continue
        for kind in KINDS:
            if kind != "step":
                part = (shard.shape, shard.start, kinds[kind], shard.shared)
            elif shard.start == 0:
                part = ((), 0, torch.as_tensor(kinds[kind]), shard.shared)
            else:
                continue  # a number for the whole parameter, kept by whoever has its first element
            pieces += _cut(f"{shard.name}.{kind}", *part, world=world, spread=spread)
    return pieces


def _cut(
    name: str, shape: Shape, start: int, value: Tensor, shared: bool, *, world: World, spread: bool
) -> list[Piece]:
    flat = value.detach().reshape(-1)
    first, last = 0, len(flat)
    if shared and spread:
        first, last = (len(flat) * r // world.size for r in (world.rank, world.rank + 1))
    elif shared and world.rank:
        return []
    if first == last and size_of(shape):
        return []
    return [Piece(name, shape, start + first, flat[first:last].to("cpu", copy=True))]


@torch.no_grad()
def load_model(held: Held, source: Source) -> None:
    """Take this rank's part of saved weights.

    Args:
        held: Changed in place.
        source: Saved parameters and buffers.

    Raises:
        ValueError: Names or shapes differ; each is listed.
    """
    own, saved = held.shapes, source.shapes
    faults = [f"{name} is missing" for name in own if name not in saved]
    faults += [f"{name} is unknown to this model" for name in saved if name not in own]
    _refuse(faults + _shape_faults(own, saved), "weights")
    for shard in held.shards:
        part = source.part(shard.name, shard.start, shard.start + shard.value.numel())
        shard.value.copy_(part.view(shard.value.shape))
    for name, buffer in held.buffers.items():
        buffer.copy_(source.part(name, 0, buffer.numel()).view(buffer.shape))


def load_optimizer(
    optimizer: torch.optim.Optimizer, shards: Sequence[Shard], held: Held, source: Source
) -> None:
    """Take this rank's part of AdamW's saved state; parameters it does not name start afresh.

    Args:
        optimizer: AdamW over the shards' values.
        shards: Those it updates.
        held: All that this rank holds.
        source: Saved state by ``<parameter>.<kind>``.

    Raises:
        ValueError: It does not fit the trainable parameters; each fault is listed.
    """
    saved: dict[str, set[str]] = {}
    for name in source.shapes:
        parameter, _, kind = name.rpartition(".")
        saved.setdefault(parameter, set()).add(kind)
    shapes = {shard.name: shard.shape for shard in held.trained}
    faults = [f"{name} is no trainable parameter" for name in saved if name not in shapes]
    faults += [
        f"{name} has {sorted(kinds)}, not {sorted(KINDS)}"
        for name, kinds in saved.items()
        if kinds != set(KINDS)
    ]
    own = {f"{n}.{kind}": shapes[n] for n in saved if n in shapes for kind in KINDS[1:]}
    faults += _shape_faults(own, source.shapes)
    _refuse(faults, "optimiser state")
    by_value = {id(shard.value): shard for shard in shards}
    packed = optimizer.state_dict()
    order = [p for group in optimizer.param_groups for p in group["params"]]
    packed["state"] = {
        index: _state_of(by_value[id(parameter)], source)
        for index, parameter in enumerate(order)
        if by_value[id(parameter)].name in saved
    }
    optimizer.load_state_dict(packed)


def _state_of(shard: Shard, source: Source) -> dict[str, Tensor]:
    first, last = shard.start, shard.start + shard.value.numel()
    moments = {
        kind: source.part(f"{shard.name}.{kind}", first, last).view(shard.value.shape).clone()
        for kind in KINDS[1:]
    }
    return {"step": source.part(f"{shard.name}.step", 0, 1).view(()).clone(), **moments}


def _shape_faults(own: Mapping[str, Shape], saved: Mapping[str, Shape]) -> list[str]:
    return [
        f"{name} is {tuple(saved[name])}, here {tuple(shape)}"
        for name, shape in own.items()
        if name in saved and tuple(saved[name]) != tuple(shape)
    ]


def _refuse(faults: list[str], what: str) -> None:
    if faults:
        raise ValueError(
            f"the saved {what} do not fit this recipe's model:\n  "
            + "\n  ".join(faults)
            + "\nresume with the recipe the checkpoint was written with"
        )
