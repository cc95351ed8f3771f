"""One tar held open beside its index: bytes by row, without parsing anything."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.index_file import HEADER, ROW, WAY_OUT, Row
from flava_plugin.data.shards.manifest import ShardEntry
from flava_plugin.data.shards.tar_headers import BLOCK

_GAP = 8 * BLOCK
"""Bytes between members that are read along: a header, or a few of PAX, and padding."""

_Range = tuple[int, int]


class Parts(NamedTuple):
    """A sample's members as they lie in the tar.

    Attributes:
        image: The picture, empty where there is none or it was not asked for.
        text: The text member, likewise.
        record: The JSON or ``cls`` member, likewise.
        header: The header before the first of them, where it was read along.
    """

    image: bytes = b""
    text: bytes = b""
    record: bytes = b""
    header: bytes = b""


class OpenShard:
    """A tar and its index, open for reading by place; safe over a fork.

    Args:
        entry: What the manifest says of it.
        tar: Where the tar is.
        index: Where its sidecar is; checked before.
        kept: Rows that are used; None for all.

    Raises:
        DamagedSampleError: The tar is not as long as the manifest says, or a file is gone.
    """

    def __init__(
        self, entry: ShardEntry, tar: Path, index: Path, kept: NDArray[np.int64] | None
    ) -> None:
        self.name = entry.name
        self.kept = kept
        self._size = entry.size
        try:
            self._files: tuple[BinaryIO, BinaryIO] = (
                tar.open("rb", buffering=0),
                index.open("rb", buffering=0),
            )
        except FileNotFoundError as error:
            raise DamagedSampleError("missing shard", f"{tar}") from error
        self._tar, self._index = (file.fileno() for file in self._files)
        size = os.fstat(self._tar).st_size
        if size < entry.size:
            raise DamagedSampleError("truncated tar", f"{tar} has {size} of {entry.size} bytes")
        if size > entry.size:
            raise DamagedSampleError(
                "damaged index", f"{tar} has {size} bytes, was indexed with {entry.size}; {WAY_OUT}"
            )

    def row(self, number: int) -> Row:
        """Read a row of the index.

        Args:
            number: Which, of the kept ones.

        Returns:
            The row.

        Raises:
            DamagedSampleError: The index is shorter than it was.
        """
        if self.kept is not None:
            number = int(self.kept[number])
        data = os.pread(self._index, ROW.size, HEADER.size + number * ROW.size)
        if len(data) < ROW.size:
            raise DamagedSampleError("damaged index", f"{self.name}: has no row {number}")
        return Row._make(ROW.unpack(data))

    def parts(self, row: Row, *, image: bool, text: bool, record: bool) -> Parts:
        """Read a sample's members, with one call to the system where they stand together.

        Args:
            row: Of the index.
            image: Whether the picture is wanted.
            text: Whether the text member is.
            record: Whether the record is.

        Returns:
            What was asked for and is there.

        Raises:
            DamagedSampleError: They lie outside of the tar, or it has become shorter.
        """
        wanted: list[_Range] = [
            (block * BLOCK, size) if asked and block else (0, 0)
            for asked, block, size in (
                (image, row[0], row[1]),
                (text, row[2], row[3]),
                (record, row[4], row[5]),
            )
        ]
        there = [(start, start + size) for start, size in wanted if start]
        if not there:
            return Parts()
        first, last = min(there)[0], max(end for _, end in there)
        if last > self._size:
            raise DamagedSampleError(
                "damaged index", f"{self.name}: a member ends at byte {last} of {self._size}"
            )
        if last - first > sum(size for _, size in wanted) + _GAP * len(there):
            return Parts(*(self._bytes(start, size) for start, size in wanted))
        begin = first - BLOCK
        data = self._bytes(begin, last - begin)
        image_, text_, record_ = (data[at - begin : at - begin + size] for at, size in wanted)
        return Parts(image_, text_, record_, data[:BLOCK])

    def member(self, row: Row, header: bytes = b"") -> str:
        """Name a sample for a message.

        Args:
            row: Of the index.
            header: The header of one of its members, where that has been read.

        Returns:
            The tar's name, and the member's as its own header has it: a name that PAX or GNU
            keep elsewhere, for its length, is cut off.
        """
        block = row.image_block or row.text_block or row.record_block
        if block and not header:
            header = os.pread(self._tar, BLOCK, (block - 1) * BLOCK)
        name = header[:100].partition(b"\0")[0].decode("utf-8", "replace")
        if header[345:346] > b"\0" and header[257:263] == b"ustar\0":
            prefix = header[345:500].partition(b"\0")[0].decode("utf-8", "replace")
            name = f"{prefix}/{name}"
        return f"{self.name}:{name}"

    def check_crc(self, row: Row) -> None:
        """Compare a sample with the sum its row has.

        Args:
            row: Of the index.

        Raises:
            DamagedSampleError: They differ.
        """
        crc = 0
        for part in self.parts(row, image=True, text=True, record=True)[:3]:
            crc = zlib.crc32(part, crc)
        if crc != row.crc:
            raise DamagedSampleError(
                "damaged tar", f"{self.member(row)}: has changed since it was indexed"
            )

    def _bytes(self, start: int, size: int) -> bytes:
        data = os.pread(self._tar, size, start)
        if len(data) < size:
            raise DamagedSampleError(
                "truncated tar", f"{self.name}: {len(data)} of {size} bytes at byte {start}"
            )
        return data
