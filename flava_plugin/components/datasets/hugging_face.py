"""Pairs as Hugging Face keeps them. The one file that imports ``datasets``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.lines import files_at
from flava_plugin.data.layouts.manifest import Manifest, manifest_records
from flava_plugin.data.layouts.picture_folder import picture_bytes
from flava_plugin.data.layouts.picture_names import inside
from flava_plugin.data.shards.picture_formats import FORMATS, NEEDED, format_of
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.data.tables import ParquetTable
from flava_plugin.schema import InputPath
from flava_plugin.types import Sample

_METADATA = ("metadata.jsonl", "metadata.csv")


class Rows(Protocol):
    """A table of which a row can be read by its number."""

    fingerprint: str

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def row(self, index: int) -> Mapping[str, Any]:
        """The values of a row."""
        ...

    def where(self, index: int) -> str:
        """Where a row stands, for messages."""
        ...

    def type_of(self, column: str) -> str:
        """Arrow's word for a column's type."""
        ...

    @property
    def text_bytes(self) -> NDArray[np.int64]:
        """Bytes of each row's text."""
        ...


def hf_pairs(
    *,
    path: InputPath,
    split: str | None = None,
    image: str = "image",
    text: str = "text",
    images: InputPath | None = None,
) -> TablePairs | Captioned:
    """Pairs as Hugging Face's ``datasets`` lays them: ``save_to_disk``, parquet, ``imagefolder``.

    Scripts such as PMD's run no longer in ``datasets``: save what an older release loaded with
    ``save_to_disk``, or take its parquet. Pictures stay undecoded until they are used.

    Args:
        path: The folder that ``save_to_disk`` wrote; a ``*.parquet`` file or a folder of them at
            any depth; or a folder of pictures with ``metadata.jsonl`` or ``metadata.csv``.
        split: Which split, of a saved dictionary of splits, or of parquet files called
            ``SPLIT-*.parquet``; null where there are none.
        image: Column of the picture: bytes, a path, or both as ``datasets`` keeps them. Not used
            for ``imagefolder``, which calls it ``file_name``.
        text: Column of the caption.
        images: Folder that the column's paths start from; null takes the data's own.

    Returns:
        The dataset.

    Raises:
        ValueError: It is none of these, a column is missing, or a library that it needs is.
    """
    if path.is_dir():
        found = next((path / name for name in _METADATA if (path / name).is_file()), None)
        if found is not None:
            manifest = Manifest("file_name", text)
            return gather(manifest_records(found, manifest), images or path, what=str(found))
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return TablePairs(SavedTable(path, split, [image, text]), image, text, images or path)
    pattern = "**/*.parquet" if split is None else f"**/{split}-*.parquet"
    files = files_at(path, pattern)
    folder = images or (path if path.is_dir() else path.parent)
    return TablePairs(ParquetTable(files, [image, text]), image, text, folder)


class TablePairs:
    """Pairs of a table.

    Args:
        table: Its rows.
        image: Column of the picture.
        text: Column of the caption.
        images: Folder that paths start from.

    Raises:
        ValueError: The caption's column holds no texts.
    """

    kind = "pair"

    def __init__(self, table: Rows, image: str, text: str, images: Path) -> None:
        kind = table.type_of(text)
        if kind not in ("string", "large_string"):
            raise ValueError(
                f"{table.where(0)}: column '{text}' holds {kind}, not one text a row; make a "
                "row of each caption first"
            )
        self.table = table
        self.image = image
        self.text = text
        self.images = images
        self.fingerprint = table.fingerprint
        self.coverage: dict[str, Any] = {"samples": len(table), "dropped": {}}
        lengths = getattr(table, "shard_lengths", None)
        if lengths is not None:
            self.shard_lengths = lengths

    def __len__(self) -> int:
        return len(self.table)

    def read(self, index: int, /) -> Sample:
        """Read a pair; the picture is decoded where it is used.

        Args:
            index: Of the row.

        Returns:
            Picture and caption.

        Raises:
            OSError: The picture is none.
            DamagedSampleError: There is none, or the table is damaged there.
        """
        row = self.table.row(index)
        return Sample(Image.open(BytesIO(self._picture(row, index))), row[self.text])

    def read_text(self, index: int, /) -> str | None:
        """Read a caption alone.

        Args:
            index: Of the row.

        Returns:
            The caption, or None.
        """
        text: str | None = self.table.row(index)[self.text]
        return text

    def read_raw(self, index: int, /) -> RawSample:
        """Read a pair without decoding its picture.

        Args:
            index: Of the row.

        Returns:
            The picture's bytes and the caption.

        Raises:
            DamagedSampleError: There is no picture, or its bytes are none.
        """
        row, where = self.table.row(index), self.table.where(index)
        data = self._picture(row, index)
        extension = FORMATS[format_of(data[:NEEDED])]
        if not extension:
            raise DamagedSampleError("broken picture", f"{where}: starts as no picture does")
        return RawSample(data, extension, row[self.text], {}, where)

    def text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tell how long captions are; the first question reads all of them.

        Args:
            indices: Of rows.

        Returns:
            Bytes of each in UTF-8.
        """
        sizes: NDArray[np.int64] = self.table.text_bytes[indices]
        return sizes

    def _picture(self, row: Mapping[str, Any], index: int) -> bytes:
        value = row[self.image]
        if isinstance(value, Mapping):  # what datasets makes of a picture: bytes, a path, or both
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        where = self.table.where(index)
        if not isinstance(value, str):
            raise DamagedSampleError("no picture", f"{where}: '{self.image}' is empty")
        if not inside(value):
            raise DamagedSampleError("unsafe name", f"{where}: {value!r}; set images:")
        return picture_bytes(self.images / value)


class SavedTable:
    """Rows that ``datasets.Dataset.save_to_disk`` wrote, mapped into memory.

    Args:
        path: The folder.
        split: Which split of a dictionary of splits.
        columns: Columns that are read; the last one holds the texts.

    Raises:
        ValueError: ``datasets`` is missing, the folder is damaged, or a split or column is missing.
    """

    def __init__(self, path: Path, split: str | None, columns: list[str]) -> None:
        self.path = path
        self._text = columns[-1]
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                f"{path}: what save_to_disk wrote needs datasets ({error}); pip install "
                "'flava-plugin[hf]'"
            ) from error
        library: Any = datasets
        try:
            found = library.load_from_disk(str(path))
        except Exception as error:  # whatever a damaged folder makes the library raise
            raise ValueError(f"{path}: cannot be loaded by datasets ({error})") from error
        if not isinstance(found, library.Dataset):
            if split not in found:
                raise ValueError(f"{path}: set split: to one of {', '.join(map(str, found))}")
            found = found[split]
        lacking = [name for name in columns if name not in found.column_names]
        if lacking:
            raise ValueError(
                f"{path}: no column {', '.join(lacking)}; it has {', '.join(found.column_names)}"
            )
        # arrow's own values: pictures as bytes and paths, nothing decoded
        self._rows = found.select_columns(columns).with_format("arrow")
        said = f"{found._fingerprint},{len(found)},{columns}"
        self.fingerprint = hashlib.blake2b(said.encode(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Mapping[str, Any]:
        """Read a row.

        Args:
            index: Of the row.

        Returns:
            Its values as plain Python.
        """
        values: dict[str, Any] = self._rows[range(len(self))[index]].to_pylist()[0]
        return values

    def where(self, index: int) -> str:
        """Say where a row stands.

        Args:
            index: Of the row.

        Returns:
            The folder and the row.
        """
        return f"{self.path}: row {index}"

    def type_of(self, column: str) -> str:
        """Name the type of a column.

        Args:
            column: Its name.

        Returns:
            Arrow's word.
        """
        return str(self._rows.features.arrow_schema.field(column).type)

    @cached_property
    def text_bytes(self) -> NDArray[np.int64]:
        """Bytes of each row's text; all are read for it, once."""
        sizes = np.zeros(len(self), dtype=np.int64)
        step = 10_000
        for start in range(0, len(self), step):
            texts = self._rows[start : start + step].column(self._text).to_pylist()
            sizes[start : start + step] = [len((text or "").encode("utf-8")) for text in texts]
        return sizes
