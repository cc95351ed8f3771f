"""Pairs held as compact columns, whatever layout they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts.picture_folder import picture_bytes
from flava_plugin.data.shards.picture_formats import FORMATS, NEEDED, format_of
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.types import Sample


@dataclass(frozen=True)
class Columns:
    """Captions and paths of pictures, about 100 bytes a pair, read-only so that forks share them.

    N pairs, P runs of pairs with the same picture.

    Attributes:
        texts: uint8, all captions in UTF-8, one behind the other.
        text_ends: (N,) uint64, where each ends.
        runs: (N,) uint32, the run of each pair.
        paths: uint8, the runs' paths in UTF-8.
        path_ends: (P,) uint64, where each ends.
        pictures: (P,) int64, the picture's number.
    """

    texts: NDArray[np.uint8]
    text_ends: NDArray[np.uint64]
    runs: NDArray[np.uint32]
    paths: NDArray[np.uint8]
    path_ends: NDArray[np.uint64]
    pictures: NDArray[np.int64]

    def __post_init__(self) -> None:
        for field in fields(self):
            getattr(self, field.name).flags.writeable = False

    @property
    def nbytes(self) -> int:
        """Memory of all columns."""
        return sum(int(getattr(self, field.name).nbytes) for field in fields(self))


class Captioned:
    """Pictures of a folder with captions, each pair a sample.

    Args:
        columns: The pairs.
        images: Folder that the paths start from.
        coverage: What was found and what was left out, for the run's record.
    """

    kind = "pair"

    def __init__(self, columns: Columns, images: Path, coverage: Mapping[str, Any]) -> None:
        self.columns = columns
        self.images = images
        self.coverage = dict(coverage)

    def __len__(self) -> int:
        return len(self.columns.text_ends)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; they change with the pairs or their order, not with the folder's place."""
        digest = hashlib.blake2b(digest_size=8)
        for field in fields(self.columns):
            digest.update(getattr(self.columns, field.name))
        return digest.hexdigest()

    def read(self, index: int, /) -> Sample:
        """Open a picture; it is decoded where it is used.

        Args:
            index: Of the pair.

        Returns:
            Picture and caption; ``extra`` has ``picture``, by which the captions of a picture
            belong together.

        Raises:
            OSError: The file is no picture.
            DamagedSampleError: It is not there.
        """
        path = self.path(index)
        try:
            picture = Image.open(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DamagedSampleError("no picture", f"{path}: {error.strerror}") from error
        run = self.columns.runs[index]
        return Sample(picture, self.read_text(index), extra=self._extra(int(run)))

    def read_text(self, index: int, /) -> str:
        """Read a caption alone.

        Args:
            index: Of the pair.

        Returns:
            The caption.
        """
        return _entry(self.columns.texts, self.columns.text_ends, range(len(self))[index])

    def read_raw(self, index: int, /) -> RawSample:
        """Read a pair without decoding its picture.

        Args:
            index: Of the pair.

        Returns:
            The picture's file as it is, and the caption.

        Raises:
            DamagedSampleError: There is no such file, or it is none of a picture.
        """
        path = self.path(index)
        data = picture_bytes(path)
        extension = FORMATS[format_of(data[:NEEDED])]
        if not extension:
            raise DamagedSampleError("broken picture", f"{path}: starts as no picture does")
        extra = self._extra(int(self.columns.runs[index]))
        return RawSample(data, extension, self.read_text(index), extra, str(path))

    def text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tell how long captions are.

        Args:
            indices: Of pairs.

        Returns:
            Bytes of each in UTF-8.
        """
        ends = self.columns.text_ends
        starts = np.where(indices > 0, ends[indices - 1], 0)
        sizes: NDArray[np.int64] = (ends[indices] - starts).astype(np.int64)
        return sizes

    def path(self, index: int) -> Path:
        """Tell where a picture lies.

        Args:
            index: Of the pair.

        Returns:
            Its file.
        """
        run = int(self.columns.runs[index])
        return self.images / _entry(self.columns.paths, self.columns.path_ends, run)

    def files(self) -> Iterator[Path]:
        """Files that the pictures are read from; captions are held in memory.

        Yields:
            Path: The picture of each run of pairs.
        """
        for run in range(len(self.columns.path_ends)):
            yield self.images / _entry(self.columns.paths, self.columns.path_ends, run)

    def _extra(self, run: int) -> dict[str, int]:
        return {"picture": int(self.columns.pictures[run])}


def _entry(blob: NDArray[np.uint8], ends: NDArray[np.uint64], index: int) -> str:
    start = int(ends[index - 1]) if index else 0
    return blob[start : int(ends[index])].tobytes().decode("utf-8")
