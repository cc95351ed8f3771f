"""The few tars a process holds open over all its sources, the longest unused closed first."""

from __future__ import annotations

import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.index_file import (
    ROW_DTYPE,
    SUFFIX,
    WAY_OUT,
    decode_index,
    digest,
    sidecar_size,
)
from flava_plugin.data.shards.manifest import Manifest, ShardEntry
from flava_plugin.data.shards.open_shard import OpenShard
from flava_plugin.data.shards.selection import Selection
from flava_plugin.data.shards.store import Store

MOST_OPEN = 128
"""Tars held open by a process at most, two files each; see ``most_open``."""

# Whose shard, and which; the longest unused first. A recipe may have a dozen sources, and what the
# system allows, it allows them together.
_used: dict[tuple[int, int], weakref.ref[OpenShards]] = {}


@cache
def most_open() -> int:
    """Count the tars that this process holds open: a quarter of the files that it may, at most.

    The rest is left to what workers hand over, every tensor of which is an open file.

    Returns:
        ``MOST_OPEN``, which is a quarter of the usual 1,024 files, or less where fewer are allowed.
    """
    if sys.platform == "win32":
        return MOST_OPEN
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if allowed < 0 else max(2, min(MOST_OPEN, allowed // 8))


class OpenShards:
    """Opens tars by number. A sidecar is compared with the manifest once in each process.

    Args:
        store: Where the tars are.
        manifest: The list of them.
        selection: Which samples are used; None for all.
    """

    def __init__(self, store: Store, manifest: Manifest, selection: Selection | None) -> None:
        self.store = store
        self.manifest = manifest
        self.selection = selection
        self._own = weakref.ref(self)
        self._open: dict[int, OpenShard] = {}
        self._checked: set[int] = set()

    def get(self, number: int) -> OpenShard:
        """Open a tar, or give it where it is open.

        Args:
            number: Its number.

        Returns:
            The tar.

        Raises:
            DamagedSampleError: It or its sidecar is missing or not as the manifest says.
        """
        shard = self._open.get(number)
        if shard is None:
            while len(_used) >= most_open():
                key = next(iter(_used))
                owner = _used.pop(key)()
                if owner is not None:
                    owner._open.pop(key[1], None)
            shard = self._open[number] = self._opened(number)
        key = id(self), number
        _used.pop(key, None)
        _used[key] = self._own  # the last one used stands last
        return shard

    def table(self, number: int) -> NDArray[Any]:
        """Read a tar's index whole, without opening the tar.

        Args:
            number: Its number.

        Returns:
            Its kept rows, of ``ROW_DTYPE``.

        Raises:
            DamagedSampleError: The sidecar is missing or not as the manifest says.
        """
        entry = self.manifest.entry(number)
        rows = np.frombuffer(_checked_rows(self._sidecar(entry), entry), ROW_DTYPE)
        return rows if self.selection is None else rows[self.selection.rows(number)]

    def _opened(self, number: int) -> OpenShard:
        entry = self.manifest.entry(number)
        tar = self.store.local(entry.name, entry.size, entry.digest)
        index = self._sidecar(entry)
        if number not in self._checked:
            _checked_rows(index, entry)
            self._checked.add(number)
        kept = None if self.selection is None else self.selection.rows(number)
        return OpenShard(entry, tar, index, kept)

    def _sidecar(self, entry: ShardEntry) -> Path:
        name = entry.name + SUFFIX
        try:
            return self.store.local(name, sidecar_size(entry.samples), entry.index_digest)
        except DamagedSampleError as error:
            if error.reason != "missing shard":
                raise
            raise DamagedSampleError(
                "damaged index", f"{error.detail}: is not there; {WAY_OUT}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_open": {}, "_checked": set()}
        del state["_own"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=weakref.ref(self))


def _checked_rows(path: Path, entry: ShardEntry) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedSampleError("damaged index", f"{path}: is not there; {WAY_OUT}") from error
    head, rows = decode_index(data, str(path))
    if digest(data) != entry.index_digest or head.samples != entry.samples:
        raise DamagedSampleError(
            "damaged index", f"{path}: is not the one that the manifest lists; {WAY_OUT}"
        )
    return rows
