"""Who writes a file of the cache, one thread of one process of the machine; and who needs it.

The half-written file is its own lock. Its writer holds ``flock`` on it; the kernel gives the lock
back however the process ends, and whoever gets it next starts the file anew. Finished, it is
renamed, so a lock on a file that no longer bears the temporary name says that somebody was faster.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from flava_plugin.durable import TEMPORARY

LOCK = ".lock"
"""Name of the file whose lock orders the evictions of all processes."""

# Open locks of this process. A forked child closes its copies: a lock lasts as long as any copy
# of the handle, and the child would keep it after its parent's death.
_open_locks: set[int] = set()


def _forget_locks() -> None:
    for handle in _open_locks:
        os.close(handle)
    _open_locks.clear()


os.register_at_fork(after_in_child=_forget_locks)


class Claim:
    """The right to write one file of a cache; made by ``claim``.

    Args:
        handle: The half-written file, open and locked.
        temporary: Its path.
        final: The path it gets.
    """

    def __init__(self, handle: int, temporary: Path, final: Path) -> None:
        self._handle = handle
        self.temporary = temporary
        self.final = final

    def reserve(self, size: int) -> None:
        """Give the file its final length, which counts against the cache's bound from now on.

        Args:
            size: Bytes.
        """
        os.ftruncate(self._handle, size)

    def restart(self) -> None:
        """Write from the beginning again."""
        os.lseek(self._handle, 0, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Append bytes, all of them.

        Args:
            data: What the store sent.
        """
        left = memoryview(data)
        start = os.lseek(self._handle, 0, os.SEEK_CUR)
        try:
            while left:
                left = left[os.write(self._handle, left) :]
        except OSError:
            os.lseek(self._handle, start, os.SEEK_SET)  # so that it can be tried again
            raise

    def finish(self) -> None:
        """Give the written file its name.

        It has its final length from the start, so after a crash of the machine nothing would tell
        a file whose bytes never reached the disk from a whole one.
        """
        os.ftruncate(self._handle, os.lseek(self._handle, 0, os.SEEK_CUR))
        os.fsync(self._handle)
        self.temporary.replace(self.final)

    def release(self) -> None:
        """Let others write; an unfinished file is removed."""
        if _is_still(self._handle, self.temporary):
            self.temporary.unlink(missing_ok=True)
        _unlock(self._handle)


def claim(final: Path) -> Claim | None:
    """Try to become the writer of a file; never waits.

    Args:
        final: The file's path in the cache.

    Returns:
        The right to write it; None while another thread or process has it.
    """
    temporary = final.with_name(TEMPORARY + final.name)
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    _open_locks.add(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _close(handle)
        return None
    except BaseException:
        _close(handle)
        raise
    if not _is_still(handle, temporary):  # finished, or swept, between opening and locking
        _unlock(handle)
        return None
    os.ftruncate(handle, 0)
    return Claim(handle, temporary, final)


def remove(path: Path) -> bool:
    """Remove a half-written file whose writer is gone, or a finished one that nobody holds.

    Args:
        path: The file.

    Returns:
        Whether it is gone.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    _open_locks.add(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _close(handle)
        return False
    if _is_still(handle, path):
        path.unlink(missing_ok=True)
    _unlock(handle)
    return True


def hold(path: Path) -> FileIO | None:
    """Keep a finished file from being evicted until ``let_go``, or the end of this process.

    Args:
        path: The file.

    Returns:
        What ``let_go`` takes; None where the file is gone.
    """
    try:
        file = FileIO(path)
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)  # others hold it alone for a moment at most
    if _is_still(file.fileno(), path):
        return file
    let_go(file)
    return None


def let_go(file: FileIO) -> None:
    """Allow a held file to be evicted.

    Args:
        file: What ``hold`` gave.
    """
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a whole cache, for a moment.

    Args:
        folder: The cache.

    Yields:
        None: Inside, no other process evicts.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    _open_locks.add(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        _unlock(handle)


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _unlock(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_UN)  # besides closing it: a forked child may have a copy
    _close(handle)


def _close(handle: int) -> None:
    _open_locks.discard(handle)
    os.close(handle)
