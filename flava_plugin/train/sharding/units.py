"""Which parts of a learner FSDP2 gathers and reduces together.

A unit is one module whose parameters are gathered in one go when it is called. No unit mixes
parameters that different kinds of step use: then a step of images neither gathers nor reduces
anything of the text encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from flava_plugin.train.sharding.flat_plan import layers_of


@dataclass
class Unit:
    """A module that is gathered as a whole, but for the units within it.

    Attributes:
        name: Its place in the learner; empty for the learner itself.
        module: The module.
        releases: Whether its parameters are given back after its forward pass. Only layers do:
            others' parameters may be used when their forward pass is over, as a head's ``decode``.
        anchored: Whether its output gets a gradient even if the loss does not depend on it.
        is_head: Whether it is given all features there are.
        parameters: Those it owns, by name; filled in by ``find_units``.
    """

    name: str
    module: nn.Module
    releases: bool = False
    anchored: bool = False
    is_head: bool = False
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)


def find_units(learner: nn.Module) -> list[Unit]:
    """Cut a learner into units: layers, the rest of each encoder, projections, heads, the rest.

    Layers are those of ``layers_of``.

    Args:
        learner: A learner that is not sharded yet. One without ``backbone`` and ``heads`` is one
            unit.

    Returns:
        Units with at least one parameter, inner ones first; the last one is the learner itself,
        which may have none.

    Raises:
        ValueError: Units share a parameter, or one mixes types of numbers; each is named.
    """
    names = {module: name for name, module in learner.named_modules()}
    units: dict[nn.Module, Unit] = {}
    for part in _children(learner, "backbone"):
        for layer in layers_of(part):
            if not isinstance(layer, nn.ModuleDict):  # which is never called
                units.setdefault(layer, Unit(names[layer], layer, releases=True))
        units.setdefault(part, Unit(names[part], part, anchored=True))
    for head in _children(learner, "heads"):
        units.setdefault(head, Unit(names[head], head, anchored=True, is_head=True))
    units[learner] = units.pop(learner, Unit("", learner))
    owners: dict[nn.Parameter, dict[str, Unit]] = {}
    _own(learner, "", units[learner], units, owners)
    faults = [
        f"{' and '.join(names)} are one parameter"
        for names in owners.values()
        if len({unit.name for unit in names.values()}) > 1
    ]
    for unit in units.values():
        types = {p.dtype for p in unit.parameters.values() if p.requires_grad}
        if len(types) > 1:
            kinds = ", ".join(sorted(map(str, types)))
            faults.append(f"{unit.name or 'the learner'} trains parameters of {kinds}")
    if faults:
        raise ValueError(
            "sharding.strategy: 'fsdp2' gathers layers, encoders and heads one by one, each with "
            "its own parameters of one type; here\n  "
            + "\n  ".join(faults)
            + "\nuse sharding.strategy=ddp_oss or fairscale_sdp, which keep parameters whole"
        )
    return [unit for unit in units.values() if unit.parameters or unit.module is learner]


def _children(learner: nn.Module, place: str) -> Iterator[nn.Module]:
    parent: nn.Module = getattr(learner, place, nn.Module())
    return parent.children()


def _own(
    module: nn.Module,
    place: str,
    unit: Unit,
    units: dict[nn.Module, Unit],
    owners: dict[nn.Parameter, dict[str, Unit]],
) -> None:
    """Give every parameter below a module to the innermost unit around it."""
    unit = units.get(module, unit)
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter.dim():
            full = f"{place}{name}"
            if parameter not in owners:
                unit.parameters[full] = parameter
            owners.setdefault(parameter, {})[full] = unit
    for name, child in module._modules.items():
        if child is not None:
            _own(child, f"{place}{name}.", unit, units, owners)
