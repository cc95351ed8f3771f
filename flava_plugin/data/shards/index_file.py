"""The sidecar of a tar: one row of 32 bytes for each sample, where its members lie."""

from __future__ import annotations

import struct
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flava_plugin.data.damage import DamagedSampleError, Reason
from flava_plugin.durable import write_bytes
from flava_plugin.types import Modality

SUFFIX = ".idx"
"""What a sidecar's name has behind its tar's."""

WAY_OUT = "run: flava data index FOLDER"

# Rows, samples' order in the tar. Blocks count 512 bytes, 0 says there is no such member. A caption
# inside the record has its length in bytes in text_size and no text_block. crc is zlib's crc32 of
# the picture, then the text, then the record.
ROW = struct.Struct("<IIIIIIHBBI")
ROW_DTYPE = np.dtype(
    [
        ("image_block", "<u4"),
        ("image_size", "<u4"),
        ("text_block", "<u4"),
        ("text_size", "<u4"),
        ("record_block", "<u4"),
        ("record_size", "<u4"),
        ("flags", "<u2"),
        ("format", "u1"),
        ("spare", "u1"),
        ("crc", "<u4"),
    ]
)

# Magic, version, rows, bytes of the tar, digest of the rows, digest of the tar, settings.
HEADER = struct.Struct("<8sIIQ16s16s8s")
_MAGIC, _VERSION = b"FLAVAIDX", 1

RECORD_IS_CLASS = 1
"""Bit of ``spare``: the record is a ``cls`` member, a number and no JSON."""

FLAGS: dict[Reason, int] = {
    "truncated tar": 1,
    "damaged tar": 2,
    "unsafe name": 4,
    "wrong extension": 8,
    "no picture": 16,
    "broken record": 32,
    "no text": 64,
    "empty text": 128,
    "text is not UTF-8": 256,
}
"""Bit by what is wrong with a sample; the first that is set is named. Bits never change."""

_ALWAYS = FLAGS["truncated tar"] | FLAGS["damaged tar"] | FLAGS["unsafe name"]
_PICTURE = FLAGS["wrong extension"] | FLAGS["no picture"]
_TEXT = sum(FLAGS[each] for each in ("broken record", "no text", "empty text", "text is not UTF-8"))

CONCERNS: dict[Modality, int] = {
    "image": _ALWAYS | _PICTURE,
    "text": _ALWAYS | _TEXT,
    "pair": _ALWAYS | _PICTURE | _TEXT,
}
"""The bits that matter to a kind of sample: a caption's fault is none of a picture alone."""


class Row(NamedTuple):
    """Where one sample lies (see ``ROW``)."""

    image_block: int = 0
    image_size: int = 0
    text_block: int = 0
    text_size: int = 0
    record_block: int = 0
    record_size: int = 0
    flags: int = 0
    format: int = 0
    spare: int = 0
    crc: int = 0


class IndexHead(NamedTuple):
    """What the head of a sidecar says.

    Attributes:
        samples: Number of rows.
        tar_bytes: Length of the tar.
        tar_digest: blake2b of the whole tar, 16 bytes.
        settings: Digest of what the rows were made with, 8 bytes.
    """

    samples: int
    tar_bytes: int
    tar_digest: bytes
    settings: bytes


def digest(data: bytes | memoryview) -> bytes:
    """Hash bytes as every index and manifest does.

    Args:
        data: The bytes.

    Returns:
        16 bytes of blake2b.
    """
    return blake2b(data, digest_size=16).digest()


def settings_digest(kind: Modality, caption_key: str) -> bytes:
    """Digest the options that rows depend on.

    Args:
        kind: What a sample has to hold.
        caption_key: Key of the caption in a record.

    Returns:
        8 bytes.
    """
    return blake2b(f"{kind}\0{caption_key}".encode(), digest_size=8).digest()


def first_reason(flags: int, kind: Modality) -> Reason | None:
    """Name what is wrong with a sample.

    Args:
        flags: Of its row.
        kind: What it has to hold.

    Returns:
        The gravest reason, or None where nothing is wrong for this kind.
    """
    flags &= CONCERNS[kind]
    return next((reason for reason, bit in FLAGS.items() if flags & bit), None) if flags else None


def sidecar_size(samples: int) -> int:
    """Count a sidecar's bytes.

    Args:
        samples: Its rows.

    Returns:
        Its length.
    """
    return HEADER.size + ROW.size * samples


def encode_index(rows: bytes | bytearray, head: IndexHead) -> bytes:
    """Put a sidecar together.

    Args:
        rows: Packed ``ROW``s.
        head: What stands before them.

    Returns:
        The whole file.
    """
    packed = bytes(rows)
    return (
        HEADER.pack(
            _MAGIC,
            _VERSION,
            head.samples,
            head.tar_bytes,
            digest(packed),
            head.tar_digest,
            head.settings,
        )
        + packed
    )


def decode_index(data: bytes, name: str) -> tuple[IndexHead, bytes]:
    """Take a sidecar apart and check it.

    Args:
        data: The whole file.
        name: Its name, for messages.

    Returns:
        What its head says, and its packed rows.

    Raises:
        DamagedSampleError: It is no sidecar, or a damaged one.
    """
    if len(data) < HEADER.size:
        raise DamagedSampleError("damaged index", f"{name}: has {len(data)} bytes; {WAY_OUT}")
    magic, version, samples, tar_bytes, checked, tar_digest, settings = HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise DamagedSampleError("damaged index", f"{name}: is no index of a tar; {WAY_OUT}")
    if version != _VERSION:
        raise DamagedSampleError(
            "damaged index", f"{name}: is of version {version}, read is {_VERSION}; {WAY_OUT}"
        )
    rows = data[HEADER.size :]
    if len(rows) != samples * ROW.size or digest(rows) != checked:
        raise DamagedSampleError(
            "damaged index", f"{name}: its {samples} rows do not fit their digest; {WAY_OUT}"
        )
    return IndexHead(samples, tar_bytes, tar_digest, settings), rows


def write_index(tar: Path, data: bytes, mtime_ns: int) -> None:
    """Write a tar's sidecar beside it, whole or not at all, with the tar's own time.

    The same time on both says later that the tar has not been touched since.

    Args:
        tar: The tar, which need not be there yet.
        data: What ``encode_index`` gave.
        mtime_ns: The tar's time of change.
    """
    write_bytes(tar.with_name(tar.name + SUFFIX), data, mtime_ns=mtime_ns)
