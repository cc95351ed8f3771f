"""Tensors in pieces: what a rank holds of a model, and where it belongs in the whole.

A piece is a contiguous range of a tensor flattened row by row. Whole parameters, rows of one
(FSDP2) and ranges that begin in the middle of a row (FairScale's flat parameters) are all pieces,
so one kind of checkpoint serves every strategy and number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A range of a tensor.

    Attributes:
        name: Of the tensor: a parameter's, or ``<parameter>.<kind>`` of the optimiser.
        shape: Of the whole tensor.
        start: First element, counted in the flattened tensor.
        values: (n,) the elements.
    """

    name: str
    shape: Shape
    start: int
    values: Tensor


class Source(Protocol):
    """Tensors that can be read in parts, wherever they lie.

    Attributes:
        shapes: Shape of every whole tensor by name.
    """

    shapes: Mapping[str, Shape]

    def part(self, name: str, start: int, stop: int) -> Tensor:
        """Read a range of a flattened tensor: (stop - start,), on the CPU."""
        ...


class Whole:
    """Whole tensors as a source.

    Args:
        tensors: By name; read when asked for.

    Attributes:
        shapes: Shape of every tensor by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.shapes: Mapping[str, Shape] = {n: tuple(t.shape) for n, t in tensors.items()}

    def part(self, name: str, start: int, stop: int) -> Tensor:
        """Read a range of a flattened tensor.

        Args:
            name: Of the tensor.
            start: First element.
            stop: The element after the last.

        Returns:
            (stop - start,).
        """
        return self._tensors[name].reshape(-1)[start:stop]


def size_of(shape: Shape) -> int:
    """Count the elements of a tensor.

    Args:
        shape: Of the tensor; () for a number.

    Returns:
        The count.
    """
    return torch.Size(shape).numel()


def whole(source: Source, name: str) -> Tensor:
    """Read a whole tensor.

    Args:
        source: Where it lies.
        name: Its name.

    Returns:
        The tensor in its shape.
    """
    shape = source.shapes[name]
    return source.part(name, 0, size_of(shape)).view(shape)


def assemble(pieces: Iterable[Piece]) -> dict[str, Tensor]:
    """Put pieces together.

    Args:
        pieces: Together they cover every tensor they name.

    Returns:
        Whole tensors by name, on the CPU.

    Raises:
        ValueError: Elements are missing; each tensor is named.
    """
    found: dict[str, Tensor] = {}
    missing: dict[str, int] = {}
    for piece in pieces:
        if len(piece.values) == size_of(piece.shape):  # no second copy of what is whole already
            found[piece.name] = piece.values.view(piece.shape)
            continue
        if piece.name not in found:
            found[piece.name] = torch.empty(piece.shape, dtype=piece.values.dtype)
            missing[piece.name] = size_of(piece.shape)
        count = len(piece.values)
        found[piece.name].view(-1)[piece.start : piece.start + count] = piece.values
        missing[piece.name] -= count
    if faults := [f"{name} lacks {n} elements" for name, n in missing.items() if n]:
        raise ValueError("pieces do not make a whole: " + ", ".join(faults))
    return found


def by_parameter(flat: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Sort an optimiser's tensors by parameter.

    Args:
        flat: By ``<parameter>.<kind>``.

    Returns:
        By parameter and kind.
    """
    state: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        parameter, _, kind = name.rpartition(".")
        state.setdefault(parameter, {})[kind] = tensor
    return state


def flat_names(state: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Undo ``by_parameter``.

    Args:
        state: By parameter and kind.

    Returns:
        By ``<parameter>.<kind>``.
    """
    return {f"{name}.{kind}": t for name, kinds in state.items() for kind, t in kinds.items()}
