"""Where the parameters of a learner lie in the flat ones of its units.

Every rank holds one range of each flat parameter. A parameter may have all of its elements in that
range, some or none, and is updated as a view of those it has.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from flava_plugin.train.sharding.flat_unit import FlatUnit
from flava_plugin.train.sharding.shards import Held, Shard
from flava_plugin.train.sharding.units import Unit
from flava_plugin.train.world import World

Places = dict[tuple[int, str], list[str]]
"""By module (its id) and attribute, all names of the parameter that is there."""


@dataclass(frozen=True)
class Range:
    """Where this rank's part of a parameter lies.

    Attributes:
        unit: The unit it belongs to.
        index: Its number in the unit.
        first: Where the part starts in this rank's range of the flat parameter.
        value: The part.
    """

    unit: FlatUnit
    index: int
    first: int
    value: nn.Parameter


def places_of(learner: nn.Module) -> Places:
    """Note where each parameter is, before units take it away.

    Args:
        learner: A learner without units.

    Returns:
        The names by place.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in learner.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {
        (id(module), attribute): names[id(parameter)]
        for module in learner.modules()
        for attribute, parameter in module._parameters.items()
        if parameter is not None
    }


def without_trained(learner: nn.Module) -> Held:
    """Describe what stays whole; holding the rest would keep its memory.

    Args:
        learner: A learner without units.

    Returns:
        Frozen parameters and buffers, and the shapes of everything.
    """
    held = Held.of_replica(learner)
    frozen = [shard for shard in held.shards if not shard.value.requires_grad]
    return Held(frozen, held.buffers, held.shapes)


def replace(unit: Unit, learner: nn.Module, world: World) -> FlatUnit:
    """Put a flat unit wherever a unit's module stands, which may be in several places.

    Args:
        unit: What becomes flat.
        learner: Changed in place, unless it is the unit itself.
        world: This process's place.

    Returns:
        The flat unit.
    """
    holders = [
        (holder, name)
        for holder in learner.modules()
        for name, child in holder._modules.items()
        if child is unit.module
    ]
    flat = FlatUnit(unit.module, world, stays=not unit.releases)
    for holder, name in holders:
        holder._modules[name] = flat
    return flat


def cut(
    units: list[FlatUnit], places: Places, held: Held, world: World
) -> tuple[list[Range], Held]:
    """Find this rank's part of each parameter in its unit's flat one.

    Args:
        units: All of a learner's.
        places: Of its parameters.
        held: What stays whole.
        world: This process's place.

    Returns:
        A range for each trainable parameter, and all that this rank holds.
    """
    shards = {shard.name: shard for shard in held.shards}
    ranges: list[Range] = []
    for unit in units:
        if unit.flat is None:
            continue
        own: Tensor = unit.flat._fp32_shard
        offset, begin = world.rank * len(own), 0
        described = zip(
            unit.flat._param_infos, unit.flat._param_shapes, unit.flat._param_numels, strict=True
        )
        for index, ((_, module, attribute), shape, count) in enumerate(described):
            first = min(max(offset - begin, 0), count)
            last = min(max(offset + len(own) - begin, 0), count)
            inside = begin + first - offset if first < last else 0
            value = nn.Parameter(own[inside : inside + last - first])
            ranges.append(Range(unit, index, inside, value))
            for name in places[id(module), attribute]:
                shards[name] = Shard(name, tuple(shape), first, value, False)
            begin += count
    ordered = [shards[name] for name in held.shapes if name in shards]
    return ranges, Held(ordered, held.buffers, held.shapes)
