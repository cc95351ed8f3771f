"""Which samples of a folder of shards are used: one bit for each, in a file beside a recipe.

A bit and not a list of numbers: 1.8 billion samples make 225 MB, whatever share is kept, and a
tar's part of it is read when the tar is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.manifest import Manifest
from flava_plugin.data.shards.sorted_header import sort_header
from flava_plugin.durable import write_bytes

_FORMAT = "flava_plugin selection 1"


class Selection:
    """The kept samples of a folder of shards.

    Args:
        path: What ``write_selection`` wrote.
        manifest: Of the folder.

    Raises:
        ValueError: There is no such file, it is damaged, or it was made for other shards.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        try:
            opened: Any = safe_open(path, "np")
            with opened as file:
                about = file.metadata() or {}
                ends = file.get_tensor("ends")
                shape = file.get_slice("bits").get_shape()
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{path}: is no selection of samples ({error}); flava data curate writes one"
            ) from error
        if about.get("format") != _FORMAT:
            raise ValueError(f"{path}: is no selection of samples; flava data curate writes one")
        if about.get("manifest") != manifest.fingerprint:
            raise ValueError(
                f"{path}: was made for other shards (manifest {about.get('manifest')}, here "
                f"{manifest.fingerprint}); run flava data curate again"
            )
        self._samples = manifest.samples
        self._places = _places(manifest)
        self.lengths: NDArray[np.int64] = np.diff(ends, prepend=0)
        if about.get("ends") != _digest(ends) or shape != [int(self._places[-1])]:
            raise ValueError(f"{path}: is damaged; run flava data curate again")
        self.fingerprint = str(about.get("content"))

    def rows(self, shard: int) -> NDArray[np.int64]:
        """List the kept rows of a tar.

        Args:
            shard: Its number.

        Returns:
            Rows of its index, ascending.

        Raises:
            DamagedSampleError: The file's bits do not fit its counts.
        """
        begin, end = int(self._places[shard]), int(self._places[shard + 1])
        bits = np.unpackbits(self._bits[begin:end], count=int(self._samples[shard]))
        rows = np.flatnonzero(bits)
        if len(rows) != self.lengths[shard]:
            raise DamagedSampleError("damaged index", f"{self.path}: run flava data curate again")
        return rows

    @cached_property
    def _bits(self) -> Any:
        file: Any = safe_open(self.path, "np")
        return file.get_slice("bits")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_bits"}


def write_selection(path: Path, manifest: Manifest, kept: Iterable[NDArray[np.bool_]]) -> int:
    """Write which samples are used, whole or not at all.

    Args:
        path: The file.
        manifest: Of the folder.
        kept: For each tar, in the manifest's order, whether each row is kept.

    Returns:
        How many are.

    Raises:
        ValueError: There are not as many as the manifest has.
    """
    places = _places(manifest)
    bits = np.zeros(int(places[-1]), np.uint8)
    lengths = np.zeros(len(manifest), np.int64)
    for shard, mask in zip(range(len(manifest)), kept, strict=True):
        if mask.shape != (int(manifest.samples[shard]),):
            raise ValueError(
                f"{path}: {manifest.name(shard)} has {manifest.samples[shard]} samples, "
                f"{len(mask)} were judged"
            )
        bits[places[shard] : places[shard + 1]] = np.packbits(mask)
        lengths[shard] = mask.sum()
    ends = np.cumsum(lengths)
    content = blake2b(ends.tobytes(), digest_size=8)
    content.update(bits.tobytes())
    about = {
        "format": _FORMAT,
        "manifest": manifest.fingerprint,
        "ends": _digest(ends),
        "content": content.hexdigest(),
    }
    write_bytes(path, sort_header(save({"ends": ends, "bits": bits}, about)))
    return int(ends[-1])


def _places(manifest: Manifest) -> NDArray[np.int64]:
    """Byte where each tar's bits begin, and the end of all."""
    return np.concatenate([[0], np.cumsum((manifest.samples + 7) // 8)])


def _digest(ends: NDArray[np.int64]) -> str:
    return blake2b(np.ascontiguousarray(ends, np.int64).tobytes(), digest_size=8).hexdigest()
