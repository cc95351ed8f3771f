"""Parquet files, row by row. The one file that imports ``pyarrow``."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.damage import DamagedSampleError

_GROUPS_HELD = 8
"""Row groups kept in memory by each process; neighbours in a shuffled order share few."""


def _arrow() -> Any:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"parquet files need pyarrow ({error}); pip install 'flava-plugin[hf]'"
        ) from error
    return pyarrow


class ParquetTable:
    """Some columns of parquet files, read a row group at a time.

    A row costs a row group's reading where the rows around it are not wanted soon after, so a
    shuffle should stay within groups (``shard_lengths``); pack large sets into shards instead.

    Args:
        files: The files, in order.
        columns: Columns to read.

    Raises:
        ValueError: A file is damaged, lacks a column, or there is no row.
    """

    def __init__(self, files: Sequence[Path], columns: Sequence[str]) -> None:
        self.files = list(files)
        self.columns = list(columns)
        lengths: list[int] = []
        self._groups: list[tuple[int, int]] = []
        digest = hashlib.blake2b(digest_size=8)
        for number, file in enumerate(self.files):
            footer = _opened(file)
            lacking = [name for name in columns if name not in footer.schema_arrow.names]
            if lacking:
                raise ValueError(
                    f"{file}: no column {', '.join(lacking)}; it has "
                    f"{', '.join(footer.schema_arrow.names)}"
                )
            for group in range(footer.num_row_groups):
                facts = footer.metadata.row_group(group)
                if facts.num_rows:
                    lengths.append(facts.num_rows)
                    self._groups.append((number, group))
                digest.update(f"{file.name},{facts.num_rows},{facts.total_byte_size};".encode())
        if not lengths:
            raise ValueError(f"{self.files[0].parent}: its parquet files hold no row")
        self.shard_lengths: NDArray[np.int64] = np.array(lengths, dtype=np.int64)
        self.fingerprint = digest.hexdigest()
        self._ends = np.cumsum(self.shard_lengths)
        self._held: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process reads for itself."""
        return {**self.__dict__, "_held": OrderedDict()}

    def type_of(self, column: str) -> str:
        """Name the type of a column.

        Args:
            column: Its name.

        Returns:
            Arrow's word, such as ``string``, ``binary`` or ``struct<bytes: binary, path: string>``.
        """
        return str(_opened(self.files[0]).schema_arrow.field(column).type)

    def row(self, index: int) -> dict[str, Any]:
        """Read a row.

        Args:
            index: Of the row.

        Returns:
            Its values as plain Python.

        Raises:
            DamagedSampleError: The file is damaged there.
        """
        index = range(len(self))[index]
        group = int(np.searchsorted(self._ends, index, side="right"))
        place = index - int(self._ends[group] - self.shard_lengths[group])
        table = self._group(group)
        try:
            return {name: table.column(name)[place].as_py() for name in self.columns}
        except UnicodeDecodeError as error:
            where = self.where(index)
            raise DamagedSampleError("text is not UTF-8", f"{where}: {error}") from error

    def where(self, index: int) -> str:
        """Say where a row stands.

        Args:
            index: Of the row.

        Returns:
            The file, and the row in it.
        """
        group = int(np.searchsorted(self._ends, index, side="right"))
        file = self._groups[group][0]
        first = next(n for n, (number, _) in enumerate(self._groups) if number == file)
        before = int(self._ends[first] - self.shard_lengths[first])
        return f"{self.files[file]}: row {index - before}"

    def texts(self, column: str) -> Iterator[str | None]:
        """Read a column of texts from start to end.

        Args:
            column: Its name.

        Yields:
            Each text; None where there is none.

        Raises:
            ValueError: A file is damaged.
        """
        for number, group in self._groups:
            values = _read(self.files[number], group, [column]).column(column)
            try:
                yield from values.to_pylist()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{self.files[number]}: row group {group}, column '{column}': {error}; save it "
                    "as UTF-8"
                ) from error

    @cached_property
    def text_bytes(self) -> NDArray[np.int64]:
        """Bytes of each text of the last column, which is read whole for it, once."""
        column = self.columns[-1]
        compute = _arrow().compute
        sizes = []
        for number, group in self._groups:
            texts = _read(self.files[number], group, [column]).column(column)
            counted = compute.fill_null(compute.binary_length(texts), 0)
            sizes.append(counted.to_numpy().astype(np.int64))
        return np.concatenate(sizes)

    def _group(self, group: int) -> Any:
        if group not in self._held:
            number, inside = self._groups[group]
            try:
                self._held[group] = _read(self.files[number], inside, self.columns)
            except ValueError as error:
                raise DamagedSampleError("broken record", str(error)) from error
            if len(self._held) > _GROUPS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(group)
        return self._held[group]


def _opened(file: Path) -> Any:
    arrow = _arrow()
    try:
        return arrow.parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{file}: no parquet file ({error}); fetch it again") from error


def _read(file: Path, group: int, columns: list[str]) -> Any:
    arrow = _arrow()
    try:
        return _opened(file).read_row_group(group, columns=columns, use_threads=False)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{file}: row group {group} cannot be read ({error})") from error
