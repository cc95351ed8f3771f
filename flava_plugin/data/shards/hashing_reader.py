"""A file that is read by place and hashed on the way, so that its bytes come from the disk once."""

from __future__ import annotations

from hashlib import blake2b
from typing import BinaryIO

_CHUNK = 1 << 20


class HashingReader:
    """A file that is read in any order and hashed once from front to end.

    Args:
        file: The file, without a buffer of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = blake2b(digest_size=16)
        self._hashed = 0
        self._chunk = b""
        self._start = 0
        self._position = 0

    def seek(self, position: int, /) -> int:
        """Go to a byte.

        Args:
            position: Its number.

        Returns:
            The same.
        """
        self._position = position
        return position

    def read(self, size: int, /) -> bytes:
        """Read on from there.

        Args:
            size: How many bytes.

        Returns:
            They; fewer at the end only.
        """
        pieces = []
        while size > 0:
            offset = self._position - self._start
            if not 0 <= offset < len(self._chunk):
                self._load(self._position)
                offset = 0
                if not self._chunk:
                    break
            piece = self._chunk[offset : offset + size]
            pieces.append(piece)
            self._position += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def digest(self) -> bytes:
        """Read the rest and hash it.

        Returns:
            blake2b of the whole file, 16 bytes.
        """
        self._file.seek(self._hashed)
        while piece := self._file.read(_CHUNK):
            self._hash.update(piece)
            self._hashed += len(piece)
        return self._hash.digest()

    def _load(self, position: int) -> None:
        self._file.seek(min(position, self._hashed))
        while self._hashed < position:
            piece = self._file.read(min(_CHUNK, position - self._hashed))
            if not piece:
                break
            self._hash.update(piece)
            self._hashed += len(piece)
        self._file.seek(position)
        self._chunk, self._start = self._file.read(_CHUNK), position
        fresh = self._chunk[max(0, self._hashed - position) :]
        if position <= self._hashed:
            self._hash.update(fresh)
            self._hashed += len(fresh)
