"""Rows of tables in text files: tab-separated without quotes, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flava_plugin.data.layouts.lines import lines
from flava_plugin.data.layouts.record import Dropped


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        path: The file.
        number: Of the line that the row ends on, from 1.
        fields: Its values.
    """

    path: Path
    number: int
    fields: list[str]

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.path}:{self.number}"


def tab_rows(path: Path, columns: int | None = None) -> Iterator[Row | Dropped]:
    """Read a tab-separated table in which quotes mean nothing (``csv.QUOTE_NONE``).

    The published tables of captions are of this kind: a caption may open with a quote that nothing
    closes, and a reader that minds quotes swallows the lines up to the next one.

    Args:
        path: The file, which may be compressed.
        columns: How many values each row has to have; None takes the first row's number.

    Yields:
        Each row, or why its line is none.
    """
    for line in lines(path):
        if isinstance(line, Dropped):
            yield line
            continue
        fields = line.text.split("\t")
        columns = len(fields) if columns is None else columns
        if len(fields) == columns:
            yield Row(path, line.number, fields)
        else:
            yield Dropped("broken line", f"{line.where}: {len(fields)} columns, not {columns}")


def csv_rows(path: Path, columns: int | None = None) -> Iterator[Row | Dropped]:
    """Read a comma-separated table in which double quotes enclose values, line ends included.

    Args:
        path: The file, which may be compressed.
        columns: How many values each row has to have; None takes the first row's number.

    Yields:
        Each row, or why there is none: for a quote that nothing closes, one for each line that it
        swallowed.
    """
    read = [0]
    aside: list[Dropped] = []
    reader = csv.reader(_plain_lines(path, read, aside), strict=True)
    while True:
        first = read[0] + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            for number in range(first, read[0] + 1):
                yield Dropped("broken line", f"{path}:{number}: {error}")
            continue
        finally:
            yield from aside
            aside.clear()
        columns = len(fields) if columns is None else columns
        if len(fields) == columns:
            yield Row(path, read[0], fields)
        else:
            yield Dropped("broken line", f"{path}:{read[0]}: {len(fields)} columns, not {columns}")


def _plain_lines(path: Path, read: list[int], aside: list[Dropped]) -> Iterator[str]:
    """The lines for the CSV reader; it says which it is at, and lays aside what is none."""
    for number, line in enumerate(lines(path), start=1):
        read[0] = number
        if isinstance(line, Dropped):
            aside.append(line)
        else:
            yield line.text + "\n"
