"""Lines of text files that may be compressed and damaged: each comes, or is named as broken."""

from __future__ import annotations

import bz2
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from flava_plugin.data.layouts.record import Dropped

LONGEST = 16 * 1024 * 1024
"""Most bytes of a line; no published table has one of a thousandth (a fuse, not a format)."""


_PACKED = (".gz", ".bz2")


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        path: The file.
        number: Of the line, from 1.
        text: Without its end.
    """

    path: Path
    number: int
    text: str

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.path}:{self.number}"


class JsonLine(NamedTuple):
    """A JSON object that stands on a line.

    Attributes:
        path: The file.
        number: Of the line, from 1.
        row: The object.
    """

    path: Path
    number: int
    row: dict[str, Any]

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.path}:{self.number}"


def files_at(path: Path, *patterns: str) -> list[Path]:
    """Find the files of a layout.

    Args:
        path: A file, taken as it is; or a folder.
        *patterns: Which files of a folder, such as ``*.tsv``.

    Returns:
        Files in the order of their names.

    Raises:
        ValueError: There is none, or one both as it is and compressed.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder; put the data there or change the path")
    found = {file for pattern in patterns for file in path.glob(pattern) if file.is_file()}
    kept = sorted(file for file in found if not file.name.startswith("."))
    if not kept:
        raise ValueError(f"{path}: holds no file of {', '.join(patterns)}; name the file itself")
    for file in kept:
        if file.suffix in _PACKED and file.with_suffix("") in found:
            raise ValueError(
                f"{file}: stands beside {file.stem}, which holds the same lines; take one of them "
                "away, or name the file itself"
            )
    return kept


def open_any(path: Path) -> BinaryIO:
    """Open a file for reading, plain, gzip or bzip2; its first bytes tell, not its name.

    Args:
        path: The file.

    Returns:
        Its bytes, decompressed while they are read.

    Raises:
        ValueError: There is no such file, or it may not be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(3)
        if head[:2] == b"\x1f\x8b":
            return cast(BinaryIO, gzip.open(path, "rb"))
        return cast(BinaryIO, bz2.open(path, "rb")) if head == b"BZh" else path.open("rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def lines(path: Path) -> Iterator[Line | Dropped]:
    """Read the lines of a file; empty ones come as dropped, and so do broken ones.

    A byte order mark and Windows line ends are taken off. A line is broken that is not UTF-8, holds
    a NUL or is longer than ``LONGEST``.

    Args:
        path: The file, which may be compressed.

    Yields:
        Each line, or why it is none.

    Raises:
        ValueError: The file is missing, or its compressed data ends early or is damaged.
    """
    number = 0
    with open_any(path) as file:
        while True:
            try:
                raw = file.readline(LONGEST + 1)
                long = len(raw) > LONGEST
                while len(raw) > LONGEST and not raw.endswith(b"\n"):
                    raw = file.readline(LONGEST + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise ValueError(
                    f"{path}: cannot be read beyond line {number} ({error}); fetch the file again"
                ) from error
            if not raw and not long:
                return
            number += 1
            text = line_text(raw, f"{path}:{number}", first=number == 1, cut=long)
            yield text if isinstance(text, Dropped) else Line(path, number, text)


def line_text(raw: bytes, where: str, *, first: bool, cut: bool = False) -> str | Dropped:
    """Decode a line.

    Args:
        raw: Its bytes, the end of the line included.
        where: File and line, for messages.
        first: Whether it is the file's first, where a byte order mark may stand.
        cut: Whether it was too long to be read whole.

    Returns:
        The text without the end of the line, or why it is none.
    """
    if cut:
        return Dropped("broken line", f"{where}: longer than {LONGEST} bytes")
    if first:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not raw.strip():
        return Dropped("empty line", where)
    if b"\0" in raw:
        return Dropped("broken line", f"{where}: holds a NUL byte")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Dropped("text is not UTF-8", f"{where}: byte {error.start} of the line")


def json_lines(path: Path) -> Iterator[JsonLine | Dropped]:
    """Read a file of JSON lines.

    Args:
        path: The file, which may be compressed.

    Yields:
        Each object, or why its line is none.
    """
    for line in lines(path):
        if isinstance(line, Dropped):
            yield line
            continue
        row = json_object(line.text, line.where)
        yield row if isinstance(row, Dropped) else JsonLine(path, line.number, row)


def json_object(text: str, where: str) -> dict[str, Any] | Dropped:
    """Read a JSON object.

    Args:
        text: A line.
        where: File and line, for messages.

    Returns:
        The object, or why the line is none.
    """
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Dropped("broken line", f"{where}: no JSON object on one line ({error})")
    if isinstance(row, dict):
        return row
    return Dropped("broken line", f"{where}: {type(row).__name__}, not a JSON object")


def text_of(value: Any, where: str, name: str) -> str | Dropped:
    """Take a value of JSON as a caption.

    Args:
        value: The value; None where there is none.
        where: File and line.
        name: The value's key, for the message.

    Returns:
        The text, or why it is none: a number is no caption.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return Dropped("no text", f"{where}: no '{name}'")
    found = f"{type(value).__name__} {str(value)[:40]!r}"
    return Dropped("broken line", f"{where}: '{name}' is {found}, not a text")
