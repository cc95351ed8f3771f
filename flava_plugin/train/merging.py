"""Joins a checkpoint in parts into one of whole tensors, one tensor at a time."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from flava_plugin.train import durable
from flava_plugin.train.checkpoint import FORMATS, STATE, Checkpoint, Fingerprint, fingerprint
from flava_plugin.train.pieces import size_of, whole
from flava_plugin.train.tensor_files import TensorFiles, file_name

DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of types in the header of a safetensors file."""


def merge(checkpoint: Checkpoint, target: Path, advance: Callable[[int], object]) -> None:
    """Write a checkpoint of whole tensors, from which any program reads the weights.

    Args:
        checkpoint: In parts.
        target: The folder to make, of the same form as one in ``checkpoints/``.
        advance: Called after each tensor with its number of elements.

    Raises:
        ValueError: The checkpoint is not in parts, or the folder exists.
        OSError: It cannot be written; nothing is left behind then.
    """
    if checkpoint.parts is None:
        raise ValueError(f"{checkpoint.folder} holds whole tensors already; there is nothing to do")
    if target.exists():
        raise ValueError(f"{target} exists; name a new folder")
    temporary = target.with_name(f"{durable.TEMPORARY}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        files: dict[str, Fingerprint] = {}
        kinds: tuple[Literal["model", "optim"], ...] = ("model", "optim")
        for kind in kinds:
            path = temporary / file_name(kind)
            _write(path, checkpoint.source(kind), advance)
            files[path.name] = fingerprint(path)
        rest = {key: value for key, value in checkpoint.state.items() if key != "parts"}
        state = {**rest, "format": FORMATS["full"], "files": files}
        (temporary / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        durable.rename_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def elements(checkpoint: Checkpoint) -> int:
    """Count what ``merge`` will go through.

    Args:
        checkpoint: The checkpoint.

    Returns:
        Elements of all tensors.
    """
    sources = (checkpoint.source("model"), checkpoint.source("optim"))
    return sum(size_of(shape) for source in sources for shape in source.shapes.values())


def _write(path: Path, source: TensorFiles, advance: Callable[[int], object]) -> None:
    """Write a safetensors file; the library's own writer wants all tensors in memory at once."""
    header, offset = {}, 0
    for name, shape in source.shapes.items():
        dtype = source.part(name, 0, 0).dtype
        end = offset + size_of(shape) * dtype.itemsize
        header[name] = {
            "dtype": DTYPES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in source.shapes:
            tensor: Tensor = whole(source, name).contiguous()
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
            advance(tensor.numel())
