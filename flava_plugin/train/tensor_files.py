"""The tensor files of a checkpoint, whole or in parts, read as one source.

    full      model.safetensors                  tensors in their shape
    sharded   model-00001-of-00004.safetensors   flat pieces; the header says where they belong

The header's ``pieces`` gives name -> [first element, shape of the whole]. Not torch's distributed
checkpoints: their index is a pickle, which this project does not read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from flava_plugin.train.pieces import Piece, Shape, size_of

INDEX = "pieces"
"""Key of a part's header that says where its pieces belong."""

DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.bool: "BOOL",
}
"""Names of types in the header of a safetensors file."""


def file_name(kind: str, part: tuple[int, int] | None = None) -> str:
    """Name a file.

    Args:
        kind: ``model``, ``optim`` or ``ema``.
        part: Rank and number of ranks, where each writes a file of its own.

    Returns:
        The name.
    """
    if part is None:
        return f"{kind}.safetensors"
    return f"{kind}-{part[0] + 1:05d}-of-{part[1]:05d}.safetensors"


def write_whole(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write whole tensors.

    Args:
        path: The file.
        tensors: By name; those that share memory are each written.
    """
    write_file(
        path, {n: (t.dtype, tuple(t.shape)) for n, t in tensors.items()}, tensors.__getitem__
    )


def write_part(path: Path, pieces: Sequence[Piece]) -> None:
    """Write one rank's pieces.

    Args:
        path: The file.
        pieces: At most one of each tensor.
    """
    index = {piece.name: [piece.start, list(piece.shape)] for piece in pieces}
    values = {piece.name: piece.values for piece in pieces}
    forms = {name: (value.dtype, tuple(value.shape)) for name, value in values.items()}
    write_file(path, forms, values.__getitem__, {INDEX: json.dumps(index)})


def write_file(
    path: Path,
    forms: Mapping[str, tuple[torch.dtype, Shape]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file, one tensor after the other.

    Not by the library, which before its version 0.8 copies everything first and keeps Python's lock
    until the last byte is written: a training beside it would stand still.

    Args:
        path: The file.
        forms: Type and shape of every tensor by name.
        read: Gives a tensor by its name, when its turn comes.
        metadata: What else the header says.

    Raises:
        OSError: It cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # Large numbers first, as the library does: so each is aligned to its own size.
    names = sorted(forms, key=lambda name: (-forms[name][0].itemsize, name))
    offset = 0
    for name in names:
        dtype, shape = forms[name]
        end = offset + size_of(shape) * dtype.itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            values = read(name).detach().cpu().contiguous().reshape(-1)
            file.write(values.view(torch.uint8).numpy().data)


class TensorFiles:
    """Files of whole tensors or of pieces, as a ``Source``; a part is read when asked for.

    Args:
        paths: The files.

    Attributes:
        shapes: Shape of every whole tensor by name.

    Raises:
        ValueError: Pieces of a tensor are missing or disagree about its shape.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.shapes: Mapping[str, Shape] = {}
        self._places: dict[str, list[tuple[int, int, Any]]] = {}
        shapes: dict[str, Shape] = {}
        for path in paths:
            file: Any = safe_open(path, framework="pt")  # maps the file; nothing is read yet
            index = json.loads((file.metadata() or {}).get(INDEX, "{}"))
            for name in file.keys():  # noqa: SIM118, it is no dict
                stored = tuple(file.get_slice(name).get_shape())
                start, shape = index.get(name, (0, stored))
                if shapes.setdefault(name, tuple(shape)) != tuple(shape):
                    raise ValueError(f"{path}: {name} has another shape than in an earlier part")
                self._places.setdefault(name, []).append((start, size_of(stored), file))
        for name, places in self._places.items():
            places.sort(key=lambda place: place[:2])
            reached = 0
            for start, count, _ in places:
                if start != reached:
                    raise ValueError(f"{name} lacks elements {reached} to {start}: a part is lost")
                reached += count
            if reached != size_of(shapes[name]):
                raise ValueError(f"{name} ends at element {reached}: a part is lost")
        self.shapes = shapes

    def part(self, name: str, start: int, stop: int) -> Tensor:
        """Read a range of a flattened tensor.

        Args:
            name: Of the tensor.
            start: First element.
            stop: The element after the last.

        Returns:
            (stop - start,), on the CPU.
        """
        found = []
        for first, count, file in self._places[name]:
            low, high = max(start, first), min(stop, first + count)
            if low < high:
                tensor: Tensor = file.get_tensor(name)  # a view of the mapped file
                found.append(tensor.reshape(-1)[low - first : high - first])
        if not found:
            empty: Tensor = self._places[name][0][2].get_tensor(name).reshape(-1)[:0]
            return empty
        return found[0] if len(found) == 1 else torch.cat(found)
