"""Where converted weights go: what is refused before any work, and how a result gets its name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flava_plugin import durable
from flava_plugin.model.hugging_face_folder import CONFIG, WEIGHTS
from flava_plugin.model.weights_names import Format


class DifferentError(Exception):
    """The result does not compute what the source computes, or cannot be written."""


def check_target(source: Path, target: Path, goal: Format, *, force: bool) -> None:
    """Refuse a target before any work is done.

    Args:
        source: The source, a file or a folder.
        target: What is to be written.
        goal: Whose names.
        force: Whether it may be replaced.

    Raises:
        ValueError: It exists, is the source or a part of it, lies in no folder, or has a wrong
            ending.
    """
    check_apart(source, target)
    if goal == "hugging_face":
        if target.suffix in (".safetensors", ".pt"):
            raise ValueError(f"{target}: Hugging Face reads folders; name one without an ending")
    elif target.suffix != ".safetensors" and (goal, target.suffix) != ("torchmultimodal", ".pt"):
        raise ValueError(
            f"{target}: name a .safetensors file, or for torchmultimodal a .pt file if it must be"
        )
    check_free(target, force=force, folder=goal == "hugging_face")


def check_apart(source: Path, target: Path) -> None:
    """Refuse a target in no folder, or one whose writing would replace the source.

    Args:
        source: A file or a folder.
        target: What is to be written.

    Raises:
        ValueError: It is one of these.
    """
    whence, where = source.resolve(), target.resolve()
    if not where.parent.is_dir():
        raise ValueError(f"{target}: no such folder; make {target.parent} first")
    if whence == where:
        raise ValueError(f"{target}: is the source; write to another place")
    inside = whence in where.parents and where.exists()
    if inside or where in whence.parents:
        what = "is a part of the source" if inside else "holds the source"
        raise ValueError(f"{target}: {what} {source}; write to another place")


def check_free(target: Path, *, force: bool, folder: bool) -> None:
    """Refuse a place that is taken.

    Args:
        target: What is to be written.
        force: Whether what is there may be replaced.
        folder: Whether a Hugging Face folder is to be written, and not a file.

    Raises:
        ValueError: It exists without ``force``, or is something that is not replaced.
    """
    if not (target.exists() or target.is_symlink()):
        return
    if not force:
        raise ValueError(f"{target}: exists; --force replaces it")
    if target.is_dir() is not folder or target.is_symlink():
        raise ValueError(f"{target}: is not what would be written there; remove it by hand")
    held = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if strange := sorted(held - {CONFIG, WEIGHTS}):
        raise ValueError(f"{target}: holds {strange[0]} besides weights; remove it by hand")


def put(temporary: Path, target: Path) -> None:
    """Give the finished result its name; an old folder goes only once the new one is there.

    Args:
        temporary: The result, written and compared.
        target: Its name beside it; what is there is replaced.
    """
    if target.is_dir():
        old = target.with_name(f"{durable.TEMPORARY}old-{os.getpid()}-{target.name}")
        try:
            target.rename(old)
            temporary.rename(target)
        except BaseException:  # Ctrl-C too must not leave the old one under a name that is swept
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        shutil.rmtree(old)
    else:
        temporary.replace(target)
    durable.sync(target.resolve().parent)
