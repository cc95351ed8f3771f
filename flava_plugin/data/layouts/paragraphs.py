"""Paragraphs of text files, each with an address it can be read from again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from flava_plugin.data.layouts.lines import LONGEST, files_at, json_object, line_text, text_of
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.tables import ParquetTable

Ends = Literal["lines", "blocks"]
"""What a document of a text file is: a line, or lines up to an empty one."""

_COMPRESSED = {b"\x1f\x8b": "gzip -d", b"BZ": "bzip2 -d"}


class Paragraphs(Protocol):
    """A file's paragraphs."""

    def scan(self, address: int = 0) -> Iterator[tuple[int, str | Dropped]]:
        """Read on from a paragraph, each with its address; what is none comes as dropped."""
        ...

    @property
    def identity(self) -> str:
        """Name, size and time of change, by which another state of the file is told."""
        ...

    @property
    def plain(self) -> bool:
        """Whether it is plain text, where a document may go over several lines."""
        ...


class TextFile:
    """Lines of a text file, or texts of a file of JSON lines; an address is a byte's number.

    Args:
        path: The file.
        key: Key of the text in JSON lines; None for plain text.

    Raises:
        ValueError: The file is compressed or cannot be read.
    """

    def __init__(self, path: Path, key: str | None) -> None:
        self.path = path
        self.key = key
        try:
            with path.open("rb") as file:
                head = file.read(2)
            facts = path.stat()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
        if head in _COMPRESSED:
            raise ValueError(
                f"{path}: is compressed, and its lines cannot be read in any order; unpack it with "
                f"{_COMPRESSED[head]}"
            )
        self._size = facts.st_size
        self.plain = key is None
        self.identity = f"{path.name},{facts.st_size},{facts.st_mtime_ns}"

    def scan(self, address: int = 0) -> Iterator[tuple[int, str | Dropped]]:
        """Read on from a line.

        Args:
            address: Byte that the line starts at.

        Yields:
            Where each line starts, and its text or why it has none.

        Raises:
            ValueError: The file has another size than at first.
        """
        with self.path.open("rb") as file:
            if file.seek(0, 2) != self._size:
                raise ValueError(f"{self.path}: has changed since the run started; start anew")
            file.seek(address)
            while raw := file.readline(LONGEST + 1):
                here, cut = address, len(raw) > LONGEST
                address += len(raw)
                while cut and not raw.endswith(b"\n") and (raw := file.readline(LONGEST + 1)):
                    address += len(raw)
                where = f"{self.path}: line at byte {here}"
                text = line_text(raw, where, first=here == 0, cut=cut)
                if self.key is not None and isinstance(text, str):
                    text = _json_text(text, self.key, where)
                yield here, text


class TextColumn:
    """Texts of parquet files, held in memory; an address is a row's number.

    Args:
        files: The files.
        key: Column of the texts.

    Raises:
        ValueError: A file is damaged or has no such column.
    """

    def __init__(self, files: Sequence[Path], key: str) -> None:
        table = ParquetTable(files, [key])
        kind = table.type_of(key)
        if "string" not in kind or "<" in kind.removeprefix("dictionary<"):
            raise ValueError(
                f"{files[0]}: column '{key}' holds {kind}, no texts; set text: to a column of texts"
            )
        blob, ends = bytearray(), array("Q")
        for text in table.texts(key):
            blob += (text or "").encode("utf-8")
            ends.append(len(blob))
        self._blob = np.frombuffer(blob, np.uint8)
        self._ends = np.frombuffer(ends, np.uint64)
        self.identity = f"{files[0].name},{table.fingerprint}"
        self.plain = False

    def scan(self, address: int = 0) -> Iterator[tuple[int, str | Dropped]]:
        """Read on from a row.

        Args:
            address: Its number.

        Yields:
            Each row's number, and its text or why it has none.
        """
        for row in range(address, len(self._ends)):
            start = int(self._ends[row - 1]) if row else 0
            text = self._blob[start : int(self._ends[row])].tobytes().decode("utf-8")
            yield row, text if text.strip() else Dropped("empty line", f"row {row}")


def open_paragraphs(path: Path, key: str) -> list[Paragraphs]:
    """Open text files.

    Args:
        path: A ``.jsonl`` (or ``.ndjson``) or ``.parquet`` file, any other file as plain text; or a
            folder, of which all ``*.txt``, ``*.jsonl`` and ``*.parquet`` below are taken.
        key: Key or column of the text.

    Returns:
        The files in the order of their paths, parquet files as one at the end.

    Raises:
        ValueError: There is none, or one cannot be read.
    """
    files = files_at(path, "**/*.txt", "**/*.jsonl", "**/*.ndjson", "**/*.parquet")
    tables = [file for file in files if file.suffix == ".parquet"]
    opened: list[Paragraphs] = [
        TextFile(file, key if file.suffix in (".jsonl", ".ndjson") else None)
        for file in files
        if file.suffix != ".parquet"
    ]
    return [*opened, TextColumn(tables, key)] if tables else opened


def _json_text(line: str, key: str, where: str) -> str | Dropped:
    row = json_object(line, where)
    if isinstance(row, Dropped):
        return row
    text = text_of(row.get(key), where, key)
    if isinstance(text, str) and not text.strip():
        return Dropped("empty text", where)
    return text
