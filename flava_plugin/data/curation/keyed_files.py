"""Values that somebody else worked out, in a parquet or CSV file with a line for each sample."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.facts import finite, hash_of
from flava_plugin.data.identity import digest_of_file

_HEX = re.compile(r"[0-9A-Fa-f]{16}")


class KeyedFile:
    """A column of values by key, 16 bytes a line.

    Args:
        path: ``*.parquet``, or CSV with a header.
        key: Column of the keys.
        column: Column of the values.
        hashes: The values are hashes of 16 hex digits and no scores.

    Raises:
        ValueError: It cannot be read, lacks a column, has no line, or two values for a key.
    """

    def __init__(self, path: Path, key: str, column: str, *, hashes: bool = False) -> None:
        self.path = path
        keys = array("Q")
        values: Any = array("Q" if hashes else "f")
        for name, value in _lines(path, key, column):
            keys.append(hash_of(str(name).encode("utf-8", "replace")))
            values.append(self._hex(value) if hashes else _number(value))
        if not keys:
            raise ValueError(f"{path}: has no line")
        hashed = np.frombuffer(keys, np.uint64)
        order = np.argsort(hashed, kind="stable")
        self._keys = hashed[order]
        self._values = np.frombuffer(values, np.uint64 if hashes else np.float32)[order]
        self._refuse_two_values(order)
        self.digest, _ = digest_of_file(path, 8)

    def values_of(
        self, keys: NDArray[np.uint64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_], dict[str, int]]:
        """Give each sample its value.

        Args:
            keys: (samples,) hashes of their keys.

        Returns:
            (samples,) values, float32 or uint64; whether each has one; and what to report.

        Raises:
            ValueError: No sample has a key of the file.
        """
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = self._keys[places] == keys
        if not found.any():
            raise ValueError(
                f"{self.path}: names no sample of the source; give the column with their keys "
                "(key: of the score), and what names a sample (key: of the plan)"
            )
        known = keys[found]
        unique = len(np.unique(known))
        report = {
            "lines": len(self._keys),
            "lines_unused": len(np.unique(self._keys)) - unique,
            "samples": len(known),
            "samples_sharing_a_key": len(known) - unique,
        }
        return self._values[places], found, report

    def _refuse_two_values(self, order: NDArray[np.int64]) -> None:
        bits = self._values.view(np.uint32) if self._values.itemsize == 4 else self._values
        two = (self._keys[1:] == self._keys[:-1]) & (bits[1:] != bits[:-1])
        if two.any():
            lines = order[np.flatnonzero(two)[0] :][:2] + 1
            raise ValueError(
                f"{self.path}: lines {min(lines)} and {max(lines)} (the header not counted) have "
                f"the same key and different values; there are {int(two.sum())} of these"
            )

    def _hex(self, value: Any) -> int:
        text = str(value).strip()
        if not _HEX.fullmatch(text):
            raise ValueError(f"{self.path}: {text!r:.40} is no hash of 16 hex digits")
        return int(text, 16)


def _lines(path: Path, key: str, column: str) -> Iterator[tuple[Any, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name a parquet or CSV file")
    if path.suffix == ".parquet":
        from flava_plugin.data.tables import ParquetTable

        table = ParquetTable([path], [key, column])
        yield from zip(table.texts(key), table.texts(column), strict=True)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            lacking = [name for name in (key, column) if name not in header]
            if lacking:
                raise ValueError(f"no column {', '.join(lacking)}; it has {', '.join(header)}")
            first, second = header.index(key), header.index(column)
            for line in lines:
                if line and len(line) != len(header):
                    raise ValueError(f"line {lines.line_num}: not {len(header)} columns")
                if line:
                    yield line[first], line[second]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _number(value: Any) -> float:
    if isinstance(value, str):
        try:
            return finite(float(value))
        except ValueError:
            return float("nan")
    return finite(value)
