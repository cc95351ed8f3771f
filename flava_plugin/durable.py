"""Writes that survive a crash at any byte: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
from pathlib import Path

TEMPORARY = ".tmp-"
"""Prefix of everything half written; whatever bears it may be deleted at the next start."""


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to the disk.

    Args:
        path: An existing file or folder.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole: a reader sees the old text or the new one, never a part.

    Args:
        path: The file; its folder exists.
        text: What it will hold, in UTF-8.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes, *, mtime_ns: int | None = None) -> None:
    """Replace a file whole: a reader sees the old bytes or the new ones, never a part.

    Args:
        path: The file; its folder exists.
        data: What it will hold.
        mtime_ns: The time of change that it shall bear; None for now.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        temporary.write_bytes(data)
        if mtime_ns is not None:
            os.utime(temporary, ns=(mtime_ns, mtime_ns))
        sync(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        name_file(error, path)
        raise
    sync(path.parent)


def name_file(error: BaseException, path: Path) -> None:
    """Let an error say which file it is of: writing to a full disk does not tell.

    Args:
        error: Any; of the system's, those that name no file are given one.
        path: The file.
    """
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def rename_folder(temporary: Path, final: Path) -> None:
    """Give a finished folder its name, and make the name last.

    Args:
        temporary: The folder, every file of it written.
        final: Its name beside it, not taken.
    """
    for file in temporary.iterdir():
        sync(file)
    sync(temporary)
    temporary.rename(final)
    sync(final.parent)
