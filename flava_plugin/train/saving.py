"""Writes checkpoints (``checkpoint.py``): files under a temporary name, fsynced, then renamed.

A checkpoint in parts is written by all ranks into one temporary folder, and published by rank 0
once everybody's files are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from flava_plugin import durable
from flava_plugin.train import run_folder
from flava_plugin.train.checkpoint import FORMATS, STATE, Fingerprint, delete, fingerprint, steps_in
from flava_plugin.train.pieces import Piece, flat_names
from flava_plugin.train.tensor_files import file_name, write_part, write_whole


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
    ema: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint of whole tensors, move ``latest`` to it and delete what is no longer kept.

    Args:
        run_dir: The run folder.
        step: Optimiser steps done.
        model: Full tensors by name; names that share memory are each written.
        optim: Optimiser state by parameter name.
        state: Plain data for ``state.json``.
        token: This attempt's token (``run_folder.claim``).
        keep: How many of the newest checkpoints stay.
        best: Whether this is the best one so far; it stays until a better one comes.
        ema: The average of the trained weights, where there is one.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: The disk is full or fails; earlier checkpoints are untouched.
        LostClaimError: Another process has claimed the run folder since.
    """
    folder = temporary(run_dir, step, token)
    try:
        with _explained(run_dir, step, token):
            folder.mkdir(parents=True)
            files = {}
            kinds = {"model": model, "optim": flat_names(optim)}
            for kind, tensors in (kinds if ema is None else {**kinds, "ema": ema}).items():
                path = folder / file_name(kind)
                write_whole(path, tensors)
                files[path.name] = fingerprint(path)
            return publish(run_dir, step, files, state, token=token, keep=keep, best=best)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def save_part(
    run_dir: Path,
    step: int,
    kinds: Mapping[str, Sequence[Piece]],
    part: tuple[int, int],
    *,
    token: str,
) -> dict[str, Fingerprint]:
    """Write one rank's files of a checkpoint in parts, not yet under its final name.

    Args:
        run_dir: The run folder.
        step: Optimiser steps done.
        kinds: This rank's pieces of the model, the optimiser's state and so on, by file.
        part: Rank and number of ranks.
        token: The attempt's token, the same on every rank.

    Returns:
        What ``publish`` takes, of this rank's files.

    Raises:
        OSError: The disk is full or fails; earlier checkpoints are untouched.
    """
    folder = temporary(run_dir, step, token)
    files = {}
    with _explained(run_dir, step, token):
        folder.mkdir(parents=True, exist_ok=True)
        for kind, pieces in kinds.items():
            path = folder / file_name(kind, part)
            write_part(path, pieces)
            durable.sync(path)
            files[path.name] = fingerprint(path)
    return files


def publish(
    run_dir: Path,
    step: int,
    files: Mapping[str, Fingerprint],
    state: Mapping[str, Any],
    *,
    token: str,
    keep: int,
    best: bool = False,
    parts: int | None = None,
) -> Path:
    """Give a written checkpoint its name and move the pointers.

    Args:
        run_dir: The run folder.
        step: Optimiser steps done.
        files: Size and digest of every file in the temporary folder.
        state: Plain data for ``state.json``.
        token: This attempt's token.
        keep: How many of the newest checkpoints stay.
        best: Whether this is the best one so far.
        parts: Into how many parts it is cut; None for whole tensors.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: The disk is full or fails; earlier checkpoints are untouched.
        LostClaimError: Another process has claimed the run folder since.
    """
    root = run_dir / "checkpoints"
    final, folder = root / f"{step:08d}", temporary(run_dir, step, token)
    head = {"format": FORMATS["full" if parts is None else "sharded"], "step": step}
    if parts is not None:
        head["parts"] = parts
    replaced = root / f"{durable.TEMPORARY}replaced-{final.name}-{token}"
    with _explained(run_dir, step, token):
        _require(folder, files)
        text = json.dumps({**head, "files": dict(files), **state}, indent=1)
        (folder / STATE).write_text(text, encoding="utf-8")
        run_folder.keep_claim(run_dir, token)
        if final.exists():  # a damaged one, or one beyond the step that this attempt resumed from
            final.rename(replaced)
        durable.rename_folder(folder, final)
        delete(replaced)
        run_folder.keep_claim(run_dir, token)
        durable.write_text(root / "latest", final.name + "\n")
        if best:
            durable.write_text(root / "best", final.name + "\n")
    _prune(root, step, keep)
    return final


def temporary(run_dir: Path, step: int, token: str) -> Path:
    """Where an attempt writes a checkpoint before it is whole.

    Args:
        run_dir: The run folder.
        step: Optimiser steps done.
        token: The attempt's token.

    Returns:
        The folder.
    """
    return run_dir / "checkpoints" / f"{durable.TEMPORARY}{step:08d}-{token}"


def _require(folder: Path, files: Mapping[str, Fingerprint]) -> None:
    """Refuse to name a checkpoint of which another rank wrote a part elsewhere."""
    lost = [name for name in files if not (folder / name).is_file()]
    if lost:
        raise CannotSaveError(
            f"cannot save in {folder.parent}: {', '.join(lost)} of other ranks are not there; "
            "checkpoint.format: sharded needs a run_dir that all ranks share"
        )


@contextmanager
def _explained(run_dir: Path, step: int, token: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors wraps the OSError of a full disk
        if (run_dir / "attempt").is_file():  # a later attempt sweeps away what this one writes
            run_folder.keep_claim(run_dir, token)
        if isinstance(error, CannotSaveError):
            raise
        raise CannotSaveError(
            f"cannot save step {step} in {run_dir / 'checkpoints'}: {error}; the previous "
            "checkpoint is kept: free some space and start the same command again"
        ) from error


class CannotSaveError(OSError):
    """A checkpoint could not be written; the one before it stands."""


def _prune(root: Path, step: int, keep: int) -> None:
    """Keep the newest up to ``step`` and the best; later ones are damaged and replaced in time."""
    kept = {f"{s:08d}" for s in sorted(s for s in steps_in(root) if s <= step)[-keep:]}
    pointer = root / "best"
    if pointer.is_file():
        kept.add(pointer.read_text().strip())
    for old in steps_in(root):
        name = f"{old:08d}"
        if old <= step and name not in kept:
            doomed = root / f"{durable.TEMPORARY}deleted-{name}"  # never half a checkpoint
            (root / name).rename(doomed)
            delete(doomed)
