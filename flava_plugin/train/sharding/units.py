"""The parts of a learner that are gathered in one go, under ``fairscale_fsdp`` and ``fsdp2``.

A unit's parameters come and go together, so it should be used whole: each encoder layer, the rest
of each encoder, each projection, each head, and what is left, which are the losses. No unit but the
last then mixes parameters of image, text and pair steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Unit:
    """A module that is gathered as a whole, but for the units within it.

    Attributes:
        name: Its place in the learner, the first if it has several; empty for the learner itself.
        module: The module.
        kind: Layer of an encoder, encoder or projection, head, or the learner with what is left.
        parameters: Those it gathers, by name. A unit may have none but those of units within it.
    """

    name: str
    module: nn.Module
    kind: Literal["layer", "encoder", "head", "rest"]
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)

    @property
    def releases(self) -> bool:
        """Whether its parameters are given back between forward and backward.

        Only layers do, which make up most of a model: what others have may be used when their
        forward pass is over, as a head's ``decode`` is by the loss.
        """
        return self.kind == "layer"


def find_units(
    learner: nn.Module, strategy: str, gathers: Callable[[nn.Parameter], bool]
) -> list[Unit]:
    """Cut a learner into units.

    An encoder is a unit even where all its parameters are its layers': only its output shows
    whether a loss depends on it.

    Args:
        learner: A learner that is whole. One without ``backbone`` and ``heads`` is one unit.
        strategy: Its name, for the error.
        gathers: Whether the strategy takes a parameter apart; others are in no unit.

    Returns:
        Units with parameters in them or in units within them, inner ones first; the last one is
        the learner itself, which may have none.

    Raises:
        ValueError: Units share a parameter, or one trains several types of numbers; each is named.
    """
    names = {module: name for name, module in learner.named_modules()}
    units: dict[nn.Module, Unit] = {}
    for encoder in _children(learner, "backbone"):
        for layer in layers_of(encoder):
            units.setdefault(layer, Unit(names[layer], layer, "layer"))
        units.setdefault(encoder, Unit(names[encoder], encoder, "encoder"))
    for head in _children(learner, "heads"):
        units.setdefault(head, Unit(names[head], head, "head"))
    units[learner] = Unit("", learner, "rest")
    faults = _fill(learner, units, gathers)
    if faults:
        raise ValueError(
            f"sharding.strategy: '{strategy}' gathers layers, encoders and heads one by one, each "
            "with its own parameters of one type; here\n  "
            + "\n  ".join(faults)
            + "\nuse sharding.strategy=ddp_oss or fairscale_sdp, which keep parameters whole"
        )
    return [u for m, u in units.items() if m is learner or any(map(gathers, m.parameters()))]


def layers_of(encoder: nn.Module) -> Iterator[nn.Module]:
    """Find the layers of an encoder, built-in or foreign.

    Args:
        encoder: The encoder.

    Yields:
        nn.Module: Members of its outermost lists and dicts, and of sequences of several modules
            of one kind. A member that is a list or a dict itself is never called; its members are
            layers.
    """
    for child in encoder.children():
        if _is_stack(child):
            for layer in child.children():
                yield from layers_of(nn.ModuleList([layer])) if _is_list(layer) else (layer,)
        else:
            yield from layers_of(child)


def _is_stack(module: nn.Module) -> bool:
    kinds = [type(child) for child in module.children()]
    alike = len(kinds) > 1 and len(set(kinds)) == 1
    return _is_list(module) or (isinstance(module, nn.Sequential) and alike)


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.ModuleDict)


def _children(learner: nn.Module, place: str) -> Iterator[nn.Module]:
    parent: nn.Module = getattr(learner, place, nn.Module())
    return parent.children()


def _fill(
    learner: nn.Module, units: dict[nn.Module, Unit], gathers: Callable[[nn.Parameter], bool]
) -> list[str]:
    """Give every parameter to the innermost unit around it; say what does not fit."""
    around: dict[str, Unit] = {}
    owners: dict[nn.Parameter, dict[str, Unit]] = {}
    for place, module in learner.named_modules(remove_duplicate=False):  # outer ones first
        unit = units.get(module) or around[place.rpartition(".")[0]]
        around[place] = unit
        for name, parameter in module.named_parameters(place, recurse=False):
            if gathers(parameter):
                if parameter not in owners:
                    unit.parameters[name] = parameter
                owners.setdefault(parameter, {})[name] = unit
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
    return faults
