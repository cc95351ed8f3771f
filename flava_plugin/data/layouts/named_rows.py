"""Rows of TSV, CSV and JSON lines as values by heading, for readers that know the headings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flava_plugin.data.layouts.delimited import csv_rows, tab_rows
from flava_plugin.data.layouts.lines import json_lines
from flava_plugin.data.layouts.record import Dropped

KINDS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv"} | {
    ".tsv": "tab",
    ".tab": "tab",
    ".txt": "tab",
}
"""What the end of a table's name says of it."""


class NamedRow(NamedTuple):
    """A row.

    Attributes:
        where: File and line.
        values: By heading; in JSON lines whatever the object has.
    """

    where: str
    values: dict[str, Any]


def kind_of(path: Path) -> str:
    """Tell what a table is by the end of its name, before ``.gz`` or ``.bz2``.

    Args:
        path: The file.

    Returns:
        ``json``, ``csv`` or ``tab`` (in which quotes mean nothing).

    Raises:
        ValueError: The name says nothing.
    """
    end = path.with_suffix("").suffix if path.suffix in (".gz", ".bz2") else path.suffix
    if end not in KINDS:
        raise ValueError(f"{path}: call it .tsv, .csv or .jsonl, so that its kind shows")
    return KINDS[end]


def named_rows(
    path: Path, wanted: Sequence[str], headings: Sequence[str] | None = None
) -> Iterator[NamedRow | Dropped]:
    """Read a table.

    Args:
        path: The file.
        wanted: Headings that it must have. A row of JSON lines that lacks one is broken.
        headings: What its columns are called where it has no first row of headings.

    Yields:
        Each row, or why a line is none.

    Raises:
        ValueError: The table lacks a column, or its name does not say what it is.
    """
    kind = kind_of(path)
    if kind == "json":
        for line in json_lines(path):
            if isinstance(line, Dropped):
                yield line
            elif lacking := [name for name in wanted if name not in line.row]:
                found = ", ".join(line.row)[:90]
                yield Dropped("broken line", f"{line.where}: no '{lacking[0]}' among {found}")
            else:
                yield NamedRow(line.where, line.row)
        return
    width = len(headings) if headings else None
    for row in tab_rows(path, width) if kind == "tab" else csv_rows(path, width):
        if isinstance(row, Dropped):
            yield row
        elif headings is None:
            headings = [name.strip() for name in row.fields]
            if lacking := [name for name in wanted if name not in headings]:
                found = ", ".join(headings)[:200]
                raise ValueError(f"{path}: no column '{lacking[0]}'; its first row is {found}")
        else:
            yield NamedRow(row.where, dict(zip(headings, row.fields, strict=True)))
