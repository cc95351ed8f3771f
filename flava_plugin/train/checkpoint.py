"""Checkpoints: a folder per saved step, whole or absent, without pickle.

    checkpoints/00000500/model.safetensors   parameters and buffers by name, full tensors
    checkpoints/00000500/optim.safetensors   "<parameter>.exp_avg", ".exp_avg_sq", ".step"
    checkpoints/00000500/state.json          step, order, recipe, and size and digest of the files
    checkpoints/latest                       the name of the newest folder
    checkpoints/best                         the name of the best one, if a metric chooses

A folder is written under a temporary name, fsynced and renamed, so its name promises that it is
whole; the digests find what a disk or a careless copy broke afterwards.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flava_plugin.train import durable, run_folder

FORMAT = 1
MODEL, OPTIM, STATE = "model.safetensors", "optim.safetensors", "state.json"

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

    def model(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, on the CPU."""
        tensors: dict[str, Tensor] = load_file(self.folder / MODEL)
        return tensors

    def optim(self) -> dict[str, dict[str, Tensor]]:
        """Optimiser state by parameter name and kind, on the CPU."""
        state: dict[str, dict[str, Tensor]] = {}
        for name, tensor in load_file(self.folder / OPTIM).items():
            parameter, _, kind = name.rpartition(".")
            state.setdefault(parameter, {})[kind] = tensor
        return state


def save(
    run_dir: Path,
    step: int,
    model: Mapping[str, Tensor],
    optim: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    token: str,
    keep: int,
    best: bool = False,
) -> Path:
    """Write a checkpoint, move ``latest`` to it and delete what is no longer kept.

    Args:
        run_dir: The run folder.
        step: Optimiser steps done.
        model: Full tensors by name; names that share memory are each written.
        optim: Optimiser state by parameter name.
        state: Plain data for ``state.json``.
        token: This attempt's token (``run_folder.claim``).
        keep: How many of the newest checkpoints stay.
        best: Whether this is the best one so far; it stays until a better one comes.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: The disk is full or fails; earlier checkpoints are untouched.
        LostClaimError: Another process has claimed the run folder since.
    """
    root = run_dir / "checkpoints"
    final = root / f"{step:08d}"
    temporary = root / f"{durable.TEMPORARY}{final.name}-{token}"
    flat = {f"{name}.{kind}": t for name, kinds in optim.items() for kind, t in kinds.items()}
    try:
        temporary.mkdir(parents=True)
        save_file(_separate(model), temporary / MODEL)
        save_file(_separate(flat), temporary / OPTIM)
        files = {name: _fingerprint(temporary / name) for name in (MODEL, OPTIM)}
        text = json.dumps({"format": FORMAT, "step": step, "files": files, **state}, indent=1)
        (temporary / STATE).write_text(text, encoding="utf-8")
        run_folder.keep_claim(run_dir, token)
        if final.exists():  # a damaged one, or one beyond the step that this attempt resumed from
            final.rename(root / f"{durable.TEMPORARY}replaced-{final.name}-{token}")
        durable.rename_folder(temporary, final)
        run_folder.keep_claim(run_dir, token)
        durable.write_text(root / "latest", final.name + "\n")
        if best:
            durable.write_text(root / "best", final.name + "\n")
    except (OSError, SafetensorError) as error:  # safetensors wraps the OSError of a full disk
        raise OSError(
            f"cannot save step {step} in {root}: {error}; the previous checkpoint is kept: free "
            "some space and start the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(root, step, keep)
    return final


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
    for step in sorted(_steps(run_dir / "checkpoints"), reverse=True):
        folder = run_dir / "checkpoints" / f"{step:08d}"
        try:
            return read(folder)
        except ValueError as error:
            faults.append(str(error))
            logger.warning("%s; trying the one before it", error)
    if faults:
        raise ValueError(
            f"no checkpoint of {run_dir} is complete:\n  " + "\n  ".join(faults) + "\nrestore one, "
            f"or delete {run_dir / 'checkpoints'} to start again"
        )
    return None


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
        known = ", ".join(str(step) for step in sorted(_steps(root))) or "none"
        raise ValueError(f"{run_dir} has no checkpoint '{which}'; it holds {known}")
    return found


def read(folder: Path) -> Checkpoint:
    """Open a checkpoint, its files checked against the sizes and digests it was written with.

    Args:
        folder: A folder of ``checkpoints/``.

    Returns:
        The checkpoint.

    Raises:
        ValueError: A file is missing, cut off or altered, or of a later format.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise ValueError(
                f"format {state['format']} is not {FORMAT}: written by another version"
            )
        for name, expected in state["files"].items():
            if (folder / name).stat().st_size != expected["bytes"]:
                raise ValueError(
                    f"{name} has not the {expected['bytes']} bytes it was written with"
                )
            if _fingerprint(folder / name) != expected:
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
            _delete(path)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors of which no two share memory, which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        storage = value.untyped_storage()
        shared = storage.data_ptr() in seen or storage.nbytes() != value.nbytes
        result[name] = value.clone() if shared else value
        seen.add(result[name].untyped_storage().data_ptr())
    return result


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _steps(root: Path) -> list[int]:
    if not root.is_dir():
        return []
    return [int(path.name) for path in root.iterdir() if path.name.isdigit() and path.is_dir()]


def _prune(root: Path, step: int, keep: int) -> None:
    """Keep the newest up to ``step`` and the best; later ones are damaged and replaced in time."""
    kept = {f"{s:08d}" for s in sorted(s for s in _steps(root) if s <= step)[-keep:]}
    pointer = root / "best"
    if pointer.is_file():
        kept.add(pointer.read_text().strip())
    for old in _steps(root):
        name = f"{old:08d}"
        if old <= step and name not in kept:
            doomed = root / f"{durable.TEMPORARY}deleted-{name}"  # never half a checkpoint
            (root / name).rename(doomed)
            _delete(doomed)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
