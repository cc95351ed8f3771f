"""The list of a folder's tars: names, samples, sizes and digests, in one file at its top."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.index_file import WAY_OUT
from flava_plugin.data.shards.sorted_header import sort_header
from flava_plugin.durable import write_bytes
from flava_plugin.types import Modality

NAME = "shards.index"
_FORMAT = "flava_plugin shards 1"
# Arrays of the file: type, and attribute of the manifest.
_ARRAYS: dict[str, tuple[type[np.generic], str]] = {
    "names": (np.uint8, "names"),
    "name_ends": (np.int64, "name_ends"),
    "samples": (np.int64, "samples"),
    "bytes": (np.int64, "sizes"),
    "digests": (np.uint8, "digests"),
    "index_digests": (np.uint8, "index_digests"),
}


class ShardEntry(NamedTuple):
    """A tar as the manifest knows it.

    Attributes:
        name: Path below the folder, with ``/`` between its parts.
        samples: Rows of its index.
        size: Its length in bytes.
        digest: blake2b of it, 16 bytes.
        index_digest: blake2b of its sidecar, 16 bytes.
    """

    name: str
    samples: int
    size: int
    digest: bytes
    index_digest: bytes


@dataclass(frozen=True, eq=False)
class Manifest:
    """All tars of a folder; 180,000 of them take some 12 MB.

    Attributes:
        names: The names' UTF-8, one behind the other.
        name_ends: (n,) where each name ends.
        samples: (n,) rows of each tar's index.
        sizes: (n,) bytes of each tar.
        digests: (n, 16) blake2b of each tar.
        index_digests: (n, 16) blake2b of each sidecar.
        kind: What the samples were checked to hold.
        caption_key: Key of a caption in a JSON record, for samples without a text member.
        faults: Number of damaged samples by reason.
    """

    names: NDArray[np.uint8]
    name_ends: NDArray[np.int64]
    samples: NDArray[np.int64]
    sizes: NDArray[np.int64]
    digests: NDArray[np.uint8]
    index_digests: NDArray[np.uint8]
    kind: Modality = "pair"
    caption_key: str = "caption"
    faults: Mapping[str, int] | None = None

    def __len__(self) -> int:
        """Number of tars."""
        return len(self.samples)

    def name(self, shard: int) -> str:
        """Give a tar's name.

        Args:
            shard: Its number.

        Returns:
            Its path below the folder.

        Raises:
            DamagedSampleError: It points out of the folder.
        """
        begin = int(self.name_ends[shard - 1]) if shard else 0
        raw = self.names[begin : int(self.name_ends[shard])].tobytes()
        name = raw.decode("utf-8", "replace")
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name or "\\" in name:
            raise DamagedSampleError("unsafe name", f"the manifest lists {name!a}; {WAY_OUT}")
        return name

    def entry(self, shard: int) -> ShardEntry:
        """Give all that is known of a tar.

        Args:
            shard: Its number.

        Returns:
            Its line.
        """
        return ShardEntry(
            self.name(shard),
            int(self.samples[shard]),
            int(self.sizes[shard]),
            self.digests[shard].tobytes(),
            self.index_digests[shard].tobytes(),
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with any name, order, length or content."""
        content = blake2b(digest_size=8)
        for name, array in self._arrays().items():
            content.update(f"{name} {array.shape};".encode())
            content.update(array.reshape(-1).view(np.uint8).data)
        about = [self.kind, self.caption_key, sorted((self.faults or {}).items())]
        content.update(json.dumps(about).encode())
        return content.hexdigest()

    def encode(self) -> bytes:
        """Put the file together.

        Returns:
            Its bytes.
        """
        about = {
            "format": _FORMAT,
            "kind": self.kind,
            "caption_key": self.caption_key,
            "faults": json.dumps(dict(self.faults or {})),
            "fingerprint": self.fingerprint,
        }
        return sort_header(save(self._arrays(), about))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            name: np.ascontiguousarray(getattr(self, attribute))
            for name, (_, attribute) in _ARRAYS.items()
        }

    def write(self, folder: Path) -> None:
        """Write the file at the top of a folder, whole or not at all.

        Args:
            folder: Where the tars lie.
        """
        write_bytes(folder / NAME, self.encode())


def gather(
    entries: Sequence[ShardEntry],
    *,
    kind: Modality,
    caption_key: str,
    faults: Mapping[str, int],
) -> Manifest:
    """Make a manifest of lines, in the order of their names.

    Args:
        entries: A line for each tar.
        kind: What the samples were checked to hold.
        caption_key: Key of captions in records.
        faults: Damaged samples by reason.

    Returns:
        The manifest.
    """
    lines = sorted(entries)
    names = [line.name.encode() for line in lines]

    def digests(values: list[bytes]) -> NDArray[np.uint8]:
        return np.frombuffer(b"".join(values), np.uint8).reshape(-1, 16)

    return Manifest(
        names=np.frombuffer(b"".join(names), np.uint8),
        name_ends=np.cumsum([len(name) for name in names], dtype=np.int64),
        samples=np.array([line.samples for line in lines], np.int64),
        sizes=np.array([line.size for line in lines], np.int64),
        digests=digests([line.digest for line in lines]),
        index_digests=digests([line.index_digest for line in lines]),
        kind=kind,
        caption_key=caption_key,
        faults=dict(sorted(faults.items())),
    )


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest and check it whole.

    Args:
        data: The file.
        where: Its place, for messages.

    Returns:
        The manifest.

    Raises:
        ValueError: It is none, or damaged; the text says what to run.
    """
    try:
        arrays = load(data)
        (length,) = struct.unpack_from("<Q", data)
        about = json.loads(data[8 : 8 + length])["__metadata__"]
        if about["format"] != _FORMAT:
            raise ValueError(f"its format is {about['format']!r}, read is {_FORMAT!r}")
        manifest = _checked(arrays, about)
    except (
        SafetensorError,
        struct.error,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise ValueError(
            f"{where}: is no list of shards, or damaged ({error}); run: flava data index FOLDER"
        ) from error
    return manifest


def _checked(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str]) -> Manifest:
    types = {name: kind for name, (kind, _) in _ARRAYS.items()}
    if {name: array.dtype.type for name, array in arrays.items()} != types:
        raise ValueError("its arrays are not those of a list")
    n = len(arrays["samples"])
    flat = ("name_ends", "samples", "bytes")
    if any(arrays[name].shape != (n,) for name in flat) or arrays["names"].ndim != 1:
        raise ValueError("its arrays differ in length")
    if any(arrays[name].shape != (n, 16) for name in ("digests", "index_digests")):
        raise ValueError("its digests are not 16 bytes each")
    ends, samples = arrays["name_ends"], arrays["samples"]
    if not n or ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] != len(arrays["names"]):
        raise ValueError("its names do not add up")
    if (samples < 0).any() or (samples >= 1 << 32).any() or (arrays["bytes"] < 0).any():
        raise ValueError("it counts what cannot be")
    if about["kind"] not in get_args(Modality):
        raise ValueError(f"its kind is {about['kind']!r}")
    faults = {str(reason): int(number) for reason, number in json.loads(about["faults"]).items()}
    manifest = Manifest(
        **{attribute: arrays[name] for name, (_, attribute) in _ARRAYS.items()},
        kind=about["kind"],  # type: ignore[arg-type]  # looked up above
        caption_key=about["caption_key"],
        faults=faults,
    )
    if about["fingerprint"] != manifest.fingerprint:
        raise ValueError("its content does not fit its fingerprint")
    return manifest
