"""Lines of text files."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from pathlib import Path
from typing import Any

from flava_plugin.data.shards.raw import RawSample
from flava_plugin.schema import InputPath
from flava_plugin.types import Sample


def text_lines(*, path: InputPath) -> TextLines:
    """Every line of a text file, or of all ``*.txt`` files below a folder; empty ones are dropped.

    Args:
        path: A file in UTF-8, or a folder.

    Returns:
        The dataset.

    Raises:
        ValueError: There is no such file, or no text in it.
    """
    return TextLines(path)


class TextLines:
    """Lines of files; a line costs eight bytes of memory until it is read.

    Args:
        path: A file or a folder.

    Raises:
        ValueError: There is no file or folder, or no text in it.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            self._files = sorted(file for file in path.rglob("*.txt") if file.is_file())
        elif path.is_file():
            self._files = [path]
        else:
            raise ValueError(f"{path}: no such file or folder; give a text file")
        self._offsets = array("Q")
        self._ends: list[int] = []
        digest = hashlib.blake2b(digest_size=8)
        for file in self._files:
            self._index(file, digest)
        if not self._offsets:
            what = "no *.txt file with text in it" if path.is_dir() else "no text"
            raise ValueError(f"{path}: holds {what}")
        self.fingerprint = digest.hexdigest()

    def _index(self, file: Path, digest: Any) -> None:
        offset = 0
        with file.open("rb") as lines:
            for line in lines:
                digest.update(line)
                if line.strip():
                    self._offsets.append(offset)
                offset += len(line)
        digest.update(b"\0")
        self._ends.append(len(self._offsets))

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, index: int, /) -> Sample:
        """Read a line.

        Args:
            index: Of the line, empty ones not counted.

        Returns:
            The line without the space around it.

        Raises:
            ValueError: It is not UTF-8; the text names the file and the byte.
        """
        offset = self._offsets[index]
        file = self._files[bisect_right(self._ends, range(len(self))[index])]
        with file.open("rb") as lines:
            lines.seek(offset)
            line = lines.readline()
        try:
            text = line.decode("utf-8-sig" if offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{file}: the line at byte {offset} is no UTF-8 ({error}); save the file as UTF-8"
            ) from error
        return Sample(text=text.strip())

    def read_raw(self, index: int, /) -> RawSample:
        """Read a line as packing and counting want it.

        Args:
            index: Of the line, empty ones not counted.

        Returns:
            The line alone.
        """
        file = self._files[bisect_right(self._ends, range(len(self))[index])]
        return RawSample(text=self.read(index).text, name=f"{file}: byte {self._offsets[index]}")
