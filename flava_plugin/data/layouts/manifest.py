"""Tables of one's own: TSV, CSV or JSON lines, columns by name or number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from flava_plugin.data.layouts.delimited import Row, csv_rows, tab_rows
from flava_plugin.data.layouts.english import English, is_english, word_count
from flava_plugin.data.layouts.lines import JsonLine, json_lines, text_of
from flava_plugin.data.layouts.picture_names import NameRule
from flava_plugin.data.layouts.record import Dropped, Record

Column = str | int
"""A column by its heading (or key), or by its number from 0."""


@dataclass(frozen=True)
class Manifest:
    """How a table is read.

    Attributes:
        image: Column of the picture's path; or of its address, where ``names`` says more.
        caption: Column of the caption; in JSON also a list of captions, each of which makes a pair.
        header: Whether the first row of TSV and CSV names the columns.
        names: How the picture is called; None takes the column ``image`` as it is.
        english: How English is told; ``off`` takes every caption.
        min_words: Fewest words of a caption.
        language: Column of the language; None for none.
        languages: Values of it that are kept.
    """

    image: Column
    caption: Column
    header: bool = True
    names: NameRule | None = None
    english: English = "off"
    min_words: int = 0
    language: Column | None = None
    languages: tuple[str, ...] = ("en",)


def manifest_records(path: Path, manifest: Manifest) -> Iterator[Record | Dropped]:
    """Read a table; the end of its name (before ``.gz`` or ``.bz2``) tells which kind it is.

    Args:
        path: ``*.tsv``, ``*.tab``, ``*.txt`` (tab-separated, quotes mean nothing), ``*.csv``, or
            ``*.jsonl`` (``*.ndjson``, ``*.json``).
        manifest: How it is read.

    Yields:
        A record for each caption.

    Raises:
        ValueError: The name says nothing, or the table lacks a column.
    """
    kind = path.with_suffix("").suffix if path.suffix in (".gz", ".bz2") else path.suffix
    if kind in (".jsonl", ".ndjson", ".json"):
        rows: Iterator[tuple[str, Callable[[Column], Any]] | Dropped] = _json_values(path)
    elif kind in (".tsv", ".tab", ".txt"):
        rows = _table_values(path, tab_rows(path), manifest)
    elif kind == ".csv":
        rows = _table_values(path, csv_rows(path), manifest)
    else:
        raise ValueError(f"{path}: call it .tsv, .csv or .jsonl, so that its kind shows")
    number = 0
    for row in rows:
        if isinstance(row, Dropped):
            number += row.reason != "empty line"
            yield row
        else:
            yield from _records(*row, number, manifest)
            number += 1


def _json_values(path: Path) -> Iterator[tuple[str, Callable[[Column], Any]] | Dropped]:
    for line in json_lines(path):
        yield line if isinstance(line, Dropped) else (line.where, _getter(line))


def _getter(line: JsonLine) -> Callable[[Column], Any]:
    return lambda column: line.row.get(str(column))


def _table_values(
    path: Path, rows: Iterator[Row | Dropped], manifest: Manifest
) -> Iterator[tuple[str, Callable[[Column], Any]] | Dropped]:
    first: Row | None = None
    for row in rows:
        if isinstance(row, Dropped):
            yield row
            continue
        first = row
        break
    if first is None:
        return
    headings = [name.strip() for name in first.fields] if manifest.header else []
    wanted = [manifest.image, manifest.caption, manifest.language]
    places = {
        column: _place(path, column, headings, len(first.fields))
        for column in wanted
        if column is not None
    }
    for row in rows if manifest.header else chain([first], rows):
        yield row if isinstance(row, Dropped) else (row.where, _cell(row.fields, places))


def _cell(fields: list[str], places: dict[Column, int]) -> Callable[[Column], Any]:
    return lambda column: fields[places[column]]


def _place(path: Path, column: Column, headings: list[str], width: int) -> int:
    if isinstance(column, int):
        if not 0 <= column < width:
            raise ValueError(f"{path}: has columns 0 to {width - 1}, no column {column}")
        return column
    if column not in headings:
        what = f"its first row is {', '.join(headings)}" if headings else "header: false"
        raise ValueError(
            f"{path}: no column '{column}' ({what}); set image:, caption: and language: to the "
            "table's own headings, or to numbers from 0"
        )
    return headings.index(column)


def _records(
    where: str, value: Callable[[Column], Any], number: int, manifest: Manifest
) -> Iterator[Record | Dropped]:
    image = value(manifest.image)
    if not isinstance(image, str):
        found = "no" if image is None else f"{type(image).__name__} as"
        yield Dropped("broken line", f"{where}: {found} '{manifest.image}'")
        return
    if manifest.language is not None and value(manifest.language) not in manifest.languages:
        yield Dropped("other language", f"{where}: {value(manifest.language)!r}")
        return
    if manifest.names is not None:
        image = manifest.names.of(row=number, url=image, image=image)
    captions = value(manifest.caption)
    # an empty list of captions has no caption, which is to be counted
    for caption in (captions or [None]) if isinstance(captions, list) else [captions]:
        text = text_of(caption, where, str(manifest.caption))
        if isinstance(text, Dropped):
            yield text
        elif manifest.min_words and word_count(text) < manifest.min_words:
            yield Dropped("too few words", where)
        elif not is_english(text, manifest.english):
            yield Dropped("not English", where)
        else:
            yield Record(image, text, None, where)
