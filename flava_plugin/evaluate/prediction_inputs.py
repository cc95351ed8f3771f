"""What ``flava predict`` is given: pictures, folders, tables and texts, read row by row."""

from __future__ import annotations

import csv
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from flava_plugin.data.damage import DamagedSampleError, reason_of
from flava_plugin.data.decoding import FAILURES, decode, warn_of_bombs

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TABLES = (".jsonl", ".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Row:
    """One input.

    Attributes:
        name: Path of the picture, or file and line.
        image: Path of the picture, or None.
        text: Text or question, or None.
        fault: What is wrong with the row itself, or None.
    """

    name: str
    image: Path | None = None
    text: str | None = None
    fault: str | None = None


@dataclass
class Faults:
    """Inputs that were left out.

    Attributes:
        counts: How many, by reason.
        examples: One of each reason, in words.
        read: Inputs that were read, good or bad.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    read: int = 0

    def add(self, reason: str, name: str, detail: str) -> None:
        """Count an input that is left out.

        Args:
            reason: In words that many inputs share.
            name: The input.
            detail: The message.
        """
        self.counts[reason] += 1
        self.examples.setdefault(reason, f"{name}: {detail}" if detail else name)


def check_inputs(inputs: Iterable[Path]) -> None:
    """Refuse what is no input before anything is computed.

    Args:
        inputs: Files and folders.

    Raises:
        ValueError: One is missing or of no known kind; it says which kinds there are.
    """
    for path in inputs:
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or folder")
        if path.is_file() and path.suffix.lower() not in (*PICTURES, *TABLES):
            raise ValueError(
                f"{path}: neither a picture ({' '.join(PICTURES)}) nor a table or list "
                f"({' '.join(TABLES)})"
            )


def rows_of(inputs: Iterable[Path]) -> Iterator[Row]:
    """Read inputs one by one.

    Args:
        inputs: Pictures; folders, whose pictures are taken in the order of their names; ``.jsonl``,
            ``.csv`` and ``.tsv`` with columns ``image`` (a path from the table's folder) and
            ``text`` or ``question``; ``.txt`` with a text a line.

    Yields:
        Row: Each input; one whose row makes no sense has a ``fault``.
    """
    for path in inputs:
        kind = path.suffix.lower()
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES)
            yield from (Row(str(each), each) for each in found if each.is_file())
        elif kind in PICTURES:
            yield Row(str(path), path)
        elif kind == ".txt":
            with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield _row(path, number, {"text": line.strip()})
        else:
            yield from _table(path)


def pictures_of(
    rows: Iterable[Row], faults: Faults, *, default: str | None = None, needs_text: bool = False
) -> Iterator[tuple[Row, Image.Image]]:
    """Decode the pictures of rows, and count those that cannot be.

    Args:
        rows: The rows.
        faults: Where bad ones are counted.
        default: Text of rows that have none.
        needs_text: Whether a row without a text is bad.

    Yields:
        tuple[Row, Image.Image]: Row, its text filled in, and picture, decoded without fault.
    """
    for row in rows:
        faults.read += 1
        text = row.text or default
        if row.fault is not None:
            faults.add("unreadable row", row.name, row.fault)
        elif row.image is None:
            faults.add("no picture", row.name, "")
        elif needs_text and not text:
            faults.add("no question", row.name, "")
        else:
            picture = _picture(row, faults)
            if picture is not None:
                yield Row(row.name, row.image, text), picture


def texts_of(rows: Iterable[Row], faults: Faults) -> Iterator[Row]:
    """Take the rows that have a text, and count the others.

    Args:
        rows: The rows.
        faults: Where bad ones are counted.

    Yields:
        Row: Those with a text.
    """
    for row in rows:
        faults.read += 1
        if row.fault is not None:
            faults.add("unreadable row", row.name, row.fault)
        elif not row.text:
            faults.add("no text", row.name, "")
        else:
            yield row


def _picture(row: Row, faults: Faults) -> Image.Image | None:
    with warnings.catch_warnings():
        warn_of_bombs(None)
        try:
            opened: Image.Image = Image.open(str(row.image))
            decode(opened)
        except FAILURES as error:
            detail = error.detail if isinstance(error, DamagedSampleError) else str(error)
            faults.add(reason_of(error), row.name, detail)
            return None
    return opened  # as it is, so that it is turned and resized as one given by its path


def _table(path: Path) -> Iterator[Row]:
    kind = path.suffix.lower()
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        if kind == ".jsonl":
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _row(path, number, _object(line))
            return
        table = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",")
        try:
            for record in table:
                yield _row(path, table.line_num, record)
        except csv.Error as error:
            yield Row(f"{path}:{table.line_num}", fault=str(error))


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        return str(error)


def _row(path: Path, number: int, record: Any) -> Row:
    name = f"{path}:{number}"
    if not isinstance(record, dict):
        return Row(name, fault="is no JSON object")
    image = record.get("image") or None
    text = record.get("question") or record.get("text") or None
    if not all(isinstance(each, str | None) for each in (image, text)):
        return Row(name, fault="image and text must be strings")
    if not all(_is_utf8(each) for each in (image, text)):
        return Row(name, fault="is not UTF-8")
    if image is None and text is None:
        columns = ", ".join(map(str, record))
        return Row(name, fault=f"has neither image nor text nor question, but {columns}")
    if image is None:
        return Row(name, None, text)
    picture = path.parent / image
    return Row(str(picture), picture, text)


def _is_utf8(text: str | None) -> bool:
    """Whether no byte of a file was carried over as a lone surrogate."""
    return text is None or not any("\ud800" <= letter <= "\udfff" for letter in text)
