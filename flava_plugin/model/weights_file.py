"""Files of weights: safetensors with what weights do not say, and ``.pt`` without its pickle.

A file of ours is a safetensors file by our names. Its metadata says what the weights were made
with: ``norm_eps`` of the masked heads, ``padding`` of the multimodal encoder, and the encoders'
numbers of attention heads, none of which leaves a trace in the tensors.
"""

from __future__ import annotations

import argparse
import struct
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

PICKLED = (".pt", ".pth", ".bin")
"""Endings of files that torch reads; only tensors, plain containers of them and a program's
arguments are admitted."""

KEYS = ("state_dict", "model", "teacher", "student")
"""Where a checkpoint keeps its weights, the first that is there and inside it the next; DINO's and
DINOv2's have a teacher, which is the one to use, and a student."""

Padding = Literal["masked", "released"]


@dataclass(frozen=True)
class Settings:
    """What weights were made with and do not say.

    Attributes:
        heads: Attention heads of the image, text and multimodal encoder.
        norm_eps: Epsilon of the masked heads' layer norm.
        padding: What the multimodal encoder does with padding (``ModelSection.padding``).
    """

    heads: tuple[int, int, int]
    norm_eps: float
    padding: Padding

    def metadata(self) -> dict[str, str]:
        """The same as a safetensors file's metadata, where everything is text."""
        return {
            "format": "flava_plugin",
            "heads": ",".join(map(str, self.heads)),
            "norm_eps": repr(self.norm_eps),
            "padding": self.padding,
        }


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], Settings | None]:
    """Read a safetensors file.

    Args:
        path: The file.

    Returns:
        Tensors by name on the CPU, and the settings where the file is one of ours.

    Raises:
        ValueError: It cannot be read, or its metadata is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: no readable safetensors file ({error})") from error
    return tensors, _settings(metadata, path)


def _settings(metadata: Mapping[str, str], path: Path) -> Settings | None:
    if metadata.get("format") != "flava_plugin":
        return None
    try:
        heads = tuple(int(part) for part in metadata["heads"].split(","))
        settings = Settings(
            cast(tuple[int, int, int], heads),
            float(metadata["norm_eps"]),
            cast(Padding, metadata["padding"]),
        )
        sound = len(heads) == 3 and min(heads) > 0 and 0 < settings.norm_eps < 1
        if not sound or settings.padding not in ("masked", "released"):
            raise ValueError("a value is out of range")
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: metadata {dict(metadata)} is damaged: {error}") from error
    return settings


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Read a file that ``torch.save`` wrote, without running anything in it.

    Args:
        path: A ``.pt``, ``.pth`` or ``.bin`` file that holds a state dict, alone or under one of
            ``KEYS``.

    Returns:
        Tensors by name on the CPU.

    Raises:
        ValueError: It cannot be read, holds anything but tensors by name, or would need more memory
            than it has bytes.
    """
    _check_archive(path)
    try:
        with _arguments_allowed():
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise what the unpickler happens to stumble over
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: refused. A file of this kind can run code of its maker when it is read, so "
            "only tensors by name are read from it, and this one holds something else or is "
            f"damaged ({type(error).__name__}: {reason}); ask its maker for a .safetensors file"
        ) from error
    for key in KEYS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    sound = isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    )
    if not sound:
        raise ValueError(
            f"{path}: holds a {type(found).__name__}, and not tensors by name; save the model's "
            "state_dict()"
        )
    for name, value in found.items():
        if fault := _larger_than_told(value):
            raise ValueError(f"{path}: refused: {name} {fault}; ask its maker for a whole file")
    return dict(found)


def _arguments_allowed() -> AbstractContextManager[object]:
    """Admit ``argparse.Namespace``, which DINO's whole checkpoints hold: a bag of attributes.

    torch before 2.5 cannot admit a class for a while, and refuses such files.
    """
    allowed = getattr(torch.serialization, "safe_globals", None)
    return nullcontext() if allowed is None else allowed([argparse.Namespace])


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is; ``torch.save`` packs nothing."""
    try:
        with path.open("rb") as file:
            begins = file.read(2) == b"PK"
        if not zipfile.is_zipfile(path):
            if begins:
                raise ValueError("a truncated archive")
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        told, size = sum(entry.file_size for entry in entries), path.stat().st_size
        packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise ValueError(f"entry {packed[0][:80]!r} is packed, which torch.save never does")
        if told > size:
            raise ValueError(f"its entries tell of {told} bytes, and the file has {size}")
    except (OSError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: refused: {error}; fetch it again, or ask its maker for a .safetensors file"
        ) from error


def _larger_than_told(value: Tensor) -> str | None:
    """What is wrong with a tensor that stands for more numbers than the file holds."""
    if value.layout != torch.strided:  # refused by the names that it may have
        return None
    if value.device.type != "cpu":
        return f"is on '{value.device}', so its numbers are not in the file"
    held = value.untyped_storage().nbytes() // value.element_size()
    if value.numel() > held:
        return f"is {tuple(value.shape)}, but only {held} numbers of it are in the file"
    return None
