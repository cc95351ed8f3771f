"""Joins a checkpoint in parts into one of whole tensors, one tensor at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from flava_plugin import durable
from flava_plugin.train.checkpoint import FORMATS, STATE, Checkpoint, Fingerprint, Kind, fingerprint
from flava_plugin.train.pieces import size_of, whole
from flava_plugin.train.tensor_files import TensorFiles, file_name, write_file


def merge(checkpoint: Checkpoint, target: Path, advance: Callable[[int], object]) -> None:
    """Write a checkpoint of whole tensors, from which any program reads the weights.

    Args:
        checkpoint: In parts.
        target: The folder to make, of the same form as one in ``checkpoints/``.
        advance: Called for each tensor with its number of elements.

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
        for kind in _kinds(checkpoint):
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
    sources = map(checkpoint.source, _kinds(checkpoint))
    return sum(size_of(shape) for source in sources for shape in source.shapes.values())


def _kinds(checkpoint: Checkpoint) -> tuple[Kind, ...]:
    return ("model", "optim", "ema") if checkpoint.averaged else ("model", "optim")


def _write(path: Path, source: TensorFiles, advance: Callable[[int], object]) -> None:
    def read(name: str) -> Tensor:
        advance(size_of(source.shapes[name]))
        return whole(source, name)

    shapes = source.shapes
    write_file(path, {n: (source.part(n, 0, 0).dtype, s) for n, s in shapes.items()}, read)
