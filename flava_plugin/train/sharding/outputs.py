"""The tensors in what a module takes or returns, of whatever classes that is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

PLAIN = (int, float, complex, str, bytes, torch.dtype, torch.device, type(None))


def tensors_in(value: Any) -> tuple[list[Tensor], bool]:
    """Look for tensors in an object: in containers and in attributes, whatever their class.

    Args:
        value: The object.

    Returns:
        Each tensor once, and whether there may be more: in functions and modules, which are not
        looked into, or in objects that show no attributes.
    """
    tensors: list[Tensor] = []
    hides = False
    seen: dict[int, Any] = {}  # the objects too, as an id may be given twice
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, PLAIN):
            continue
        seen[id(part)] = part
        if isinstance(part, Tensor):
            tensors.append(part)
            continue
        inside = [] if isinstance(part, nn.Module | type | ModuleType) else list(_inside(part))
        hides |= callable(part) or not (inside or _is_container(part))
        waiting += reversed(inside)
    return tensors, hides


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | set | frozenset)


def _inside(value: Any) -> Iterator[Any]:
    if _is_container(value):
        yield from value.values() if isinstance(value, Mapping) else value
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(value, name, None)
    yield from getattr(value, "__dict__", {}).values()
