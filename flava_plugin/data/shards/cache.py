"""A bounded folder of whole files that all processes of a machine share and keep over runs."""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from flava_plugin.data.damage import StoreError
from flava_plugin.data.shards.cache_claims import Claim, alone, claim, hold, let_go, remove
from flava_plugin.data.shards.remote_incidents import Incidents
from flava_plugin.durable import TEMPORARY

logger = logging.getLogger(__name__)

HELD = 2
"""Files that a process asked for last and may be about to open: a shard and its index."""

TOUCH_EVERY = 5.0
"""Seconds within which a second use of a file leaves its time of use as it is."""

# Only files of such names are counted and evicted, whatever else lies in the folder.
_NAME = re.compile(rf"({re.escape(TEMPORARY)})?[0-9a-f]{{32}}\.shard")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_FIRST_WAIT, _LONGEST_WAIT, _WAIT_NAMED = 0.01, 0.2, 60.0


class _Entry(NamedTuple):
    used: int
    path: Path
    size: int


class DiskCache:
    """Keeps whole files by key, at most ``limit`` bytes of them; the least recently used go first.

    The last ``HELD`` files that a process asked for stay, so that it can open them. One it has open
    may be evicted later: it reads on, and the disk gets the space back when it closes the file.

    Args:
        folder: Where; made where it is missing.
        limit: Bytes, the files being written included. What all processes write and hold at one
            time may exceed it, with a warning, since nothing else can be evicted then.
        incidents: Where damaged files are counted.
    """

    def __init__(self, folder: Path, limit: int, incidents: Incidents) -> None:
        self.folder = folder
        self.limit = limit
        self.incidents = incidents
        self._lock = threading.Lock()
        self._held: deque[FileIO] = deque()
        # Not at the end of the process: a forked one would let go what its parent holds.
        weakref.finalize(self, _let_all_go, self._held).atexit = False

    def find(self, key: bytes, size: int | None) -> Path | None:
        """Look a file up, and note that it is used.

        Args:
            key: Its 16 bytes.
            size: Bytes it must have; None for any.

        Returns:
            Its path, or None where it is not there, or not whole.
        """
        path = self._path(key)
        try:
            status = path.stat()
            if size is not None and status.st_size != size:
                path.unlink()
                self.incidents.count(
                    "cache file damaged",
                    f"{path}: {status.st_size} bytes instead of {size}; it is fetched again",
                )
                return None
            if abs(time.time() - status.st_mtime) > TOUCH_EVERY:
                with suppress(PermissionError):  # another user's file, in a folder of several
                    os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self.folder, error) from error
        return path

    def obtain(
        self, key: bytes, size: int | None, fill: Callable[[Claim], None], *, wait: bool = True
    ) -> Path | None:
        """Look a file up; where it is missing, write it, or wait for whoever is writing it.

        Args:
            key: Its 16 bytes.
            size: Its bytes; None where they are not known.
            fill: Writes the content by ``append``; what it raises goes through.
            wait: Whether it is needed now. If not, nobody is waited for, and it is left where it
                would exceed the bound.

        Returns:
            Its path; None where it was left.

        Raises:
            StoreError: The folder cannot be written to, or the disk is full.
        """
        pause, since = _FIRST_WAIT, time.monotonic()
        while True:
            found = self.find(key, size)
            right = None if found else self._claim(key)
            if right:
                try:
                    found = self._fill(right, key, size, fill, wait)
                finally:
                    right.release()
            if not wait or (found and self._hold(found)):
                return found
            if found or right:  # gone again
                continue
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT)
            if time.monotonic() - since > _WAIT_NAMED:
                since = time.monotonic()
                logger.warning("%s: still waiting for the process that fetches it", self._path(key))

    def append(self, right: Claim, data: bytes) -> None:
        """Write bytes to a file being fetched; on a full disk others are evicted first.

        Args:
            right: The file.
            data: What comes next in it.

        Raises:
            StoreError: The disk is full, and nothing is left to evict.
        """
        while True:
            try:
                right.write(data)
                return
            except OSError as error:
                if error.errno not in _FULL or not self._evict_for_disk(len(data)):
                    raise _unusable(self.folder, error) from error

    def _hold(self, path: Path) -> bool:
        file = hold(path)
        if file is None:
            return False
        with self._lock:
            for old in [held for held in self._held if held.name == file.name]:
                self._held.remove(old)
                let_go(old)
            self._held.append(file)
            while len(self._held) > HELD:
                let_go(self._held.popleft())
        return True

    def _claim(self, key: bytes) -> Claim | None:
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                return claim(self._path(key))
            except OSError as error:
                if error.errno not in _FULL or not self._evict_for_disk(1):
                    raise _unusable(self.folder, error) from error

    def _fill(
        self,
        right: Claim,
        key: bytes,
        size: int | None,
        fill: Callable[[Claim], None],
        needed: bool,
    ) -> Path | None:
        found = self.find(key, size)  # its last writer may have finished since we looked
        if found:
            return found
        if not self._make_room(right, size or 0, needed):
            return None
        fill(right)
        try:
            right.finish()
        except FileNotFoundError:  # somebody cleared the folder
            return None
        if size is None:
            self._make_room(right, 0, True)
        return right.final

    def _make_room(self, right: Claim, size: int, needed: bool) -> bool:
        """Reserve a file's bytes, evicting until they fit; False where they do not and need not."""
        try:
            with alone(self.folder):
                entries, total = self._entries()
                if total + size > self.limit:
                    total = self._without_leftovers(right)
                over = total + size - self.limit
                if not needed and over > sum(entry.size for entry in entries):
                    return False
                for entry in entries:
                    if over > 0 and remove(entry.path):
                        over -= entry.size
                if over > 0 and not needed:
                    return False
                if size:
                    right.reserve(size)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        if over > 0:
            self.incidents.count(
                "cache too small",
                f"{self.folder}: what is being fetched exceeds cache.gib by {over} bytes; "
                "give it room for all shards that are read at one time",
            )
        return True

    def _evict_for_disk(self, size: int) -> bool:
        """Free at least so many bytes of the disk, whatever the bound; False if there are none."""
        freed = 0
        with alone(self.folder):
            for entry in self._entries()[0]:
                if freed >= size:
                    break
                freed += entry.size if remove(entry.path) else 0
        if freed:
            self.incidents.count(
                "cache disk full", f"{self.folder}: {freed} bytes were evicted before their time"
            )
        return freed > 0

    def _entries(self) -> tuple[list[_Entry], int]:
        """Finished files, least recently used first, and the bytes of all files."""
        finished, total = [], 0
        with os.scandir(self.folder) as found:
            for item in found:
                if not _NAME.fullmatch(item.name):
                    continue
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                total += status.st_size
                if not item.name.startswith(TEMPORARY):
                    finished.append(_Entry(status.st_mtime_ns, Path(item.path), status.st_size))
        return sorted(finished), total

    def _without_leftovers(self, right: Claim) -> int:
        """Remove what writers that are gone left half written; count what stays."""
        for path in self.folder.glob(f"{TEMPORARY}*.shard"):
            if path != right.temporary and _NAME.fullmatch(path.name):
                remove(path)
        return self._entries()[1]

    def _path(self, key: bytes) -> Path:
        return self.folder / f"{key.hex()}.shard"


def _let_all_go(held: deque[FileIO]) -> None:
    while held:
        let_go(held.popleft())


def _unusable(folder: Path, error: OSError) -> StoreError:
    if error.errno in _FULL:
        way_out = "free space on its disk, or name a folder on another one in cache.folder"
    elif error.errno in _NO_LOCKS:
        way_out = "its file system knows no locks; name a folder on a local disk in cache.folder"
    else:
        way_out = "name a folder in cache.folder that this user can write to"
    return StoreError(f"cache folder {folder}: {error.strerror or error}; {way_out}")
