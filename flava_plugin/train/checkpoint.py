"""Checkpoints: a folder per saved step, whole or absent, without pickle.

    checkpoints/00000500/model.safetensors   parameters and buffers by name, full tensors
    checkpoints/00000500/optim.safetensors   "<parameter>.exp_avg", ".exp_avg_sq", ".step"
    checkpoints/00000500/ema.safetensors     the average of the trained weights, with optim.ema
    checkpoints/00000500/state.json          step, order, recipe, and size and digest of the files
    checkpoints/latest                       the name of the newest folder
    checkpoints/best                         the name of the best one, if a metric chooses

With ``checkpoint.format: sharded`` every rank writes files of its own (``tensor_files.py``); either
form goes on under any strategy and number of ranks. A folder is written under a temporary name,
fsynced and renamed (``saving.py``), so its name promises that it is whole; the digests find what a
disk or a careless copy broke afterwards.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from torch import Tensor

from flava_plugin import durable
from flava_plugin.train.pieces import by_parameter, whole
from flava_plugin.train.tensor_files import TensorFiles, file_name

FORMATS = {"full": 1, "sharded": 2}
STATE = "state.json"

Kind = Literal["model", "optim", "ema"]
"""Files of tensors."""

Fingerprint = dict[str, Any]
"""Of a file: ``bytes`` and ``sha256``."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk that was found complete.

    Attributes:
        folder: Its folder.
        step: Optimiser steps done when it was written.
        state: What ``state.json`` holds.
    """

    folder: Path
    step: int
    state: Mapping[str, Any]

    @property
    def parts(self) -> int | None:
        """Into how many parts it is cut; None for whole tensors."""
        parts: int | None = self.state.get("parts")
        return parts

    @property
    def averaged(self) -> bool:
        """Whether it holds an average of the weights beside them."""
        return any(name.startswith("ema") for name in self.state["files"])

    def source(self, kind: Kind) -> TensorFiles:
        """Open its tensors, to be read as far as they are asked for.

        Args:
            kind: The weights, the optimiser's state by ``<parameter>.<kind>``, or the average of
                the trained weights.

        Returns:
            The tensors.

        Raises:
            ValueError: A file cannot be read.
        """
        if self.parts is None:
            names = [file_name(kind)]
        else:
            names = [file_name(kind, (part, self.parts)) for part in range(self.parts)]
        try:
            return TensorFiles([self.folder / name for name in names])
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"checkpoint {self.folder} is damaged: {error}") from error

    def model(self, weights: Literal["raw", "ema", "auto"] = "raw") -> dict[str, Tensor]:
        """Read parameters and buffers.

        Args:
            weights: ``raw`` as they were trained; ``ema`` their average, which there has to be;
                ``auto`` the average where there is one.

        Returns:
            Tensors by name, on the CPU.

        Raises:
            ValueError: There is no average of the weights.
        """
        if weights == "ema" and not self.averaged:
            raise ValueError(
                f"checkpoint {self.folder} holds no average of the weights: optim.ema was not set; "
                "take weights raw"
            )
        sources = [self.source("model")]
        if self.averaged and weights != "raw":
            sources.append(self.source("ema"))
        return {name: whole(source, name) for source in sources for name in source.shapes}

    def optim(self) -> dict[str, dict[str, Tensor]]:
        """Optimiser state by parameter name and kind, on the CPU."""
        source = self.source("optim")
        return by_parameter({name: whole(source, name) for name in source.shapes})


def newest(run_dir: Path) -> Checkpoint | None:
    """Find the newest complete checkpoint, naming every damaged one that is newer.

    Args:
        run_dir: The run folder.

    Returns:
        The checkpoint, or None where there is none.

    Raises:
        ValueError: There are checkpoints, and every one is damaged.
    """
    faults = []
    for step in sorted(steps_in(run_dir / "checkpoints"), reverse=True):
        folder = run_dir / "checkpoints" / f"{step:08d}"
        try:
            return read(folder)
        except ValueError as error:
            if not folder.is_dir():  # pruned meanwhile by a run that goes on, which has newer ones
                return newest(run_dir)
            faults.append(str(error))
            logger.warning("%s; trying the one before it", error)
    if faults:
        raise ValueError(damaged(run_dir, faults))
    return None


def damaged(run_dir: Path, faults: Sequence[str]) -> str:
    """Say that no checkpoint can be used.

    Args:
        run_dir: The run folder.
        faults: What is wrong with each.

    Returns:
        The text of the error.
    """
    return (
        f"no checkpoint of {run_dir} is complete:\n  " + "\n  ".join(faults) + "\nrestore one, or "
        f"delete {run_dir / 'checkpoints'} to start again"
    )


def find(run_dir: Path, which: str | int = "latest") -> Checkpoint:
    """Find a checkpoint by name.

    Args:
        run_dir: The run folder.
        which: ``latest``, ``best`` or a number of steps.

    Returns:
        The checkpoint.

    Raises:
        ValueError: There is no such checkpoint, or it is damaged.
    """
    root = run_dir / "checkpoints"
    if which == "latest":
        found = newest(run_dir)
    elif which == "best":
        pointer = root / "best"
        found = read(root / pointer.read_text().strip()) if pointer.is_file() else None
    elif str(which).isdigit():
        folder = root / f"{int(which):08d}"
        found = read(folder) if folder.is_dir() else None
    else:
        raise ValueError(f"checkpoint '{which}' is not latest, best or a number of steps")
    if found is None:
        known = ", ".join(str(step) for step in sorted(steps_in(root))) or "none"
        raise ValueError(f"{run_dir} has no checkpoint '{which}'; it holds {known}")
    return found


def read(folder: Path, share: tuple[int, int] = (0, 1)) -> Checkpoint:
    """Open a checkpoint, its files checked against the sizes and digests it was written with.

    Args:
        folder: A folder of ``checkpoints/``.
        share: Rank and number of ranks that check digests, each its share of the files; sizes are
            checked by all.

    Returns:
        The checkpoint.

    Raises:
        ValueError: A file is missing, cut off or altered, or of a later format.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["format"] not in FORMATS.values():
            raise ValueError(f"format {state['format']} is unknown: written by another version")
        for number, (name, expected) in enumerate(sorted(state["files"].items())):
            if (folder / name).stat().st_size != expected["bytes"]:
                raise ValueError(
                    f"{name} has not the {expected['bytes']} bytes it was written with"
                )
            if number % share[1] == share[0] and fingerprint(folder / name) != expected:
                raise ValueError(f"{name} is not what was written")
        return Checkpoint(folder, int(state["step"]), state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"checkpoint {folder} is damaged: {error}") from error


def point_best(run_dir: Path, step: int | None) -> None:
    """Repair ``best`` after a crash between a checkpoint and its pointer.

    Args:
        run_dir: The run folder.
        step: The best step that the resumed checkpoint knows of.
    """
    root = run_dir / "checkpoints"
    if step is not None and (root / f"{step:08d}").is_dir():
        durable.write_text(root / "best", f"{step:08d}\n")


def sweep(run_dir: Path) -> None:
    """Delete what an earlier attempt left half written.

    Args:
        run_dir: The run folder.
    """
    for folder in (run_dir, run_dir / "checkpoints"):
        for path in folder.glob(f"{durable.TEMPORARY}*"):
            delete(path)


def fingerprint(path: Path) -> Fingerprint:
    """Measure a file.

    Args:
        path: The file.

    Returns:
        Its size and digest.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def steps_in(root: Path) -> list[int]:
    """List the checkpoints of a folder.

    Args:
        root: A run's ``checkpoints/``.

    Returns:
        Their steps, in no order.
    """
    if not root.is_dir():
        return []
    return [int(path.name) for path in root.iterdir() if path.name.isdigit() and path.is_dir()]


def delete(path: Path) -> None:
    """Delete a file or folder, as far as it can be.

    Args:
        path: What may be there.
    """
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
