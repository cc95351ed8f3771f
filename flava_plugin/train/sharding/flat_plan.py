"""Which parts of a learner become flat units.

A unit's parameters come and go together, so it should be used whole: each encoder layer, the rest
of each encoder, each projection, each head, and what is left, which are the losses. No unit but the
last then mixes parameters of image, text and pair steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Part:
    """A module to be made a unit.

    Attributes:
        module: The module.
        stays: Whether its parameters stay gathered between forward and backward.
    """

    module: nn.Module
    stays: bool


def parts_of(learner: nn.Module) -> list[Part]:
    """Choose the units of a learner.

    Only encoder layers are freed after their forward: they make up most of a model, and a head's
    parameters are used again by the loss.

    Args:
        learner: A learner; one without a ``backbone`` of encoders is a single unit.

    Returns:
        Parts with trainable parameters, inner ones first, the learner last.

    Raises:
        ValueError: Two parts share a trainable parameter; each such is named.
    """
    found: list[Part] = []
    for encoder in getattr(learner, "backbone", nn.Module()).children():
        found += [Part(layer, stays=False) for layer in layers_of(encoder)]
        found.append(Part(encoder, stays=True))
    found += [Part(head, stays=True) for head in getattr(learner, "heads", nn.Module()).children()]
    distinct = {id(part.module): part for part in found if trains(part.module)}
    parts = [*distinct.values(), Part(learner, stays=True)]
    _refuse_shared(learner, {id(part.module) for part in parts})
    return parts


def layers_of(encoder: nn.Module) -> Iterator[nn.Module]:
    """Find the layers of an encoder, built-in or foreign.

    Args:
        encoder: The encoder.

    Yields:
        nn.Module: Members of its outermost lists, and of sequences whose members are of one kind.
    """
    for child in encoder.children():
        if is_stack(child):
            for layer in child.children():
                yield from layers_of(nn.ModuleList([layer])) if is_list(layer) else (layer,)
        else:
            yield from layers_of(child)


def is_stack(module: nn.Module) -> bool:
    """Whether a module consists of layers.

    Args:
        module: Any.

    Returns:
        True for a list or a dict, and for a sequence of several modules of one kind.
    """
    if is_list(module):
        return True
    kinds = [type(child) for child in module.children()]
    return isinstance(module, nn.Sequential) and len(kinds) > 1 and len(set(kinds)) == 1


def is_list(module: nn.Module) -> bool:
    """Whether a module only holds others, and is never called.

    Args:
        module: Any.

    Returns:
        True for a list or a dict of modules.
    """
    return isinstance(module, nn.ModuleList | nn.ModuleDict)


def trains(module: nn.Module) -> bool:
    """Whether a module has trainable parameters.

    Args:
        module: Any.

    Returns:
        True if it has one.
    """
    return any(parameter.requires_grad for parameter in module.parameters())


def _refuse_shared(learner: nn.Module, units: set[int]) -> None:
    owners: dict[nn.Parameter, dict[int, str]] = defaultdict(dict)

    def visit(module: nn.Module, path: str, unit: int) -> None:
        unit = id(module) if id(module) in units else unit
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad:
                owners[parameter].setdefault(unit, path + name)
        for name, child in module._modules.items():
            if child is not None:
                visit(child, f"{path}{name}.", unit)

    visit(learner, "", id(learner))
    shared = [" and ".join(names.values()) for names in owners.values() if len(names) > 1]
    if shared:
        raise ValueError(
            "sharding.strategy: 'fairscale_fsdp' cannot share a parameter between parts of a model "
            f"that are gathered apart: {'; '.join(shared)} are one; use sharding.strategy=ddp_oss "
            "or fairscale_sdp"
        )
