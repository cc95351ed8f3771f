"""Samples -> tars with their sidecars: plain USTAR, the same bytes for the same samples."""

from __future__ import annotations

import glob
import json
import os
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.index_file import (
    ROW,
    IndexHead,
    Row,
    encode_index,
    settings_digest,
    write_index,
)
from flava_plugin.data.shards.picture_formats import FORMATS, NEEDED, format_of
from flava_plugin.data.shards.records import text_of
from flava_plugin.data.shards.tar_headers import BLOCK
from flava_plugin.durable import TEMPORARY, sync
from flava_plugin.types import Modality

_LARGEST = (1 << 32) - 1
_KEY = re.compile(r"[0-9A-Za-z_-]{1,80}")
_END = bytes(2 * BLOCK)


class ShardFile:
    """One tar being written; it and its sidecar get their names together, or never.

    Args:
        tar: Its name; the folder exists.
        kind: What a sample has to hold.
        caption_key: Recorded for samples whose caption is in a JSON record.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, tar: Path, kind: Modality, caption_key: str = "caption") -> None:
        self.tar = tar
        self.kind = kind
        self._settings = settings_digest(kind, caption_key)
        for left in tar.parent.glob(f"{TEMPORARY}{glob.escape(tar.name)}-*"):
            left.unlink(missing_ok=True)  # of a writer that was killed
        self._temporary = tar.with_name(f"{TEMPORARY}{tar.name}-{os.getpid()}")
        self._file = self._temporary.open("wb", buffering=1 << 20)
        self._hash = blake2b(digest_size=16)
        self._rows = bytearray()
        self.size = 0

    @property
    def samples(self) -> int:
        """How many have been added."""
        return len(self._rows) // ROW.size

    def add(
        self,
        key: str,
        *,
        image: bytes | None = None,
        text: str | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a sample.

        Args:
            key: Name of its members without extension: letters, digits, ``_`` and ``-``.
            image: The picture's file, whose extension its bytes tell.
            text: The caption or sentence.
            record: Labels.

        Raises:
            DamagedSampleError: It lacks what its kind needs; nothing has been written.
            ValueError: The key has other characters.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"key {key!r}: take 1 to 80 letters, digits, '_' and '-'")
        number = self._checked(image, text)
        content = b"" if text is None else text_of(text.encode("utf-8", "replace")).encode()
        labels = b"" if record is None else json.dumps(record, sort_keys=True).encode()
        if max(len(image or b""), len(content), len(labels)) > _LARGEST:
            raise DamagedSampleError("broken record", f"{key}: a member is larger than 4 GiB")
        image_block = self._member(f"{key}.{FORMATS[number]}", image) if image is not None else 0
        text_block = self._member(f"{key}.txt", content) if text is not None else 0
        record_block = self._member(f"{key}.json", labels) if record is not None else 0
        crc = zlib.crc32(labels, zlib.crc32(content, zlib.crc32(image or b"")))
        self._rows += ROW.pack(
            *Row(
                image_block,
                len(image or b""),
                text_block,
                len(content),
                record_block,
                len(labels),
                0,
                number,
                0,
                crc,
            )
        )

    def finish(self) -> None:
        """End the tar, force it to the disk and give it its name, the sidecar's first."""
        self._write(_END)
        self._file.close()
        sync(self._temporary)
        head = IndexHead(self.samples, self.size, self._hash.digest(), self._settings)
        write_index(self.tar, encode_index(self._rows, head), self._temporary.stat().st_mtime_ns)
        self._temporary.replace(self.tar)
        sync(self.tar.parent)

    def drop(self) -> None:
        """Throw away what has been written."""
        with suppress(OSError):  # of a full disk, which closing writes to once more
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _checked(self, image: bytes | None, text: str | None) -> int:
        if image is None and self.kind != "text":
            raise DamagedSampleError("no picture")
        if text is None and self.kind != "image":
            raise DamagedSampleError("no text")
        number = format_of(image[:NEEDED]) if image is not None else 0
        if image is not None and not number:
            raise DamagedSampleError("broken picture", f"it begins with {image[:NEEDED]!r}")
        return number

    def _member(self, name: str, content: bytes) -> int:
        self._write(ustar_header(name, len(content)))
        block = self.size // BLOCK
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))
        return block

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)


def ustar_header(name: str, size: int) -> bytes:
    """Make the header of a file, the same for the same name and size: no time, no owner.

    Args:
        name: At most 100 ASCII characters.
        size: Of its content in bytes, below 8 GiB.

    Returns:
        512 bytes.
    """
    fields = (
        name.encode("ascii").ljust(100, b"\0")
        + b"0000644\0" + b"0000000\0" * 2
        + b"%011o\0" % size
        + b"%011o\0" % 0
        + b" " * 8
        + b"0"
        + bytes(100)
        + b"ustar\x0000"
    ).ljust(BLOCK, b"\0")  # fmt: skip
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]
