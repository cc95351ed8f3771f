"""Samples one after the other -> a folder of tars with its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flava_plugin.data.shards.indexing import index_folder, index_tar
from flava_plugin.data.shards.manifest import Manifest
from flava_plugin.data.shards.writing import ShardFile
from flava_plugin.types import Modality


class ShardWriter:
    """Writes samples into tar after tar; begun again, it goes on behind the last whole one.

    Args:
        folder: Where to; made where it is missing.
        kind: What a sample has to hold.
        prefix: What the tars' names begin with.
        samples_per_shard: Most samples of a tar, at most 99,999.
        bytes_per_shard: Bytes after which a tar is full.
        caption_key: Key of captions in JSON records, for other tars of the folder.

    Attributes:
        done: Samples of whole tars that were there already: the caller begins behind them.

    Raises:
        ValueError: The numbers are out of range.
        OSError: The folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        kind: Modality,
        *,
        prefix: str = "",
        samples_per_shard: int = 10_000,
        bytes_per_shard: int = 1 << 30,
        caption_key: str = "caption",
    ) -> None:
        if not 0 < samples_per_shard < 100_000 or bytes_per_shard < 1:
            raise ValueError(
                f"samples_per_shard {samples_per_shard}, bytes_per_shard {bytes_per_shard}: "
                "take 1 to 99,999 samples and some bytes"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.kind: Modality = kind
        self.prefix = prefix
        self.samples_per_shard = samples_per_shard
        self.bytes_per_shard = bytes_per_shard
        self.caption_key = caption_key
        self.done = 0
        self._shard = 0
        self._file: ShardFile | None = None
        while (folder / shard_name(prefix, self._shard)).is_file():
            name = shard_name(prefix, self._shard)
            self.done += index_tar(folder, name, kind, caption_key).entry.samples
            self._shard += 1

    def add(
        self,
        *,
        image: bytes | None = None,
        text: str | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a sample.

        Args:
            image: The picture's file.
            text: The caption or sentence.
            record: Labels.

        Raises:
            DamagedSampleError: It lacks what its kind needs; nothing has been written of it.
        """
        if self._file is None:
            tar = self.folder / shard_name(self.prefix, self._shard)
            self._file = ShardFile(tar, self.kind, self.caption_key)
        file = self._file
        key = f"{self._shard:06d}{file.samples:05d}"
        file.add(key, image=image, text=text, record=record)
        if file.samples >= self.samples_per_shard or file.size >= self.bytes_per_shard:
            self._end_shard()

    def close(self) -> Manifest:
        """End the last tar and write the manifest of all tars of the folder.

        Returns:
            The manifest.
        """
        self._end_shard()
        return index_folder(self.folder, kind=self.kind, caption_key=self.caption_key)

    def _end_shard(self) -> None:
        if self._file is not None:
            if self._file.samples:
                self._file.finish()
                self._shard += 1
            else:
                self._file.drop()
            self._file = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif self._file is not None:
            self._file.drop()  # the whole tars before it stay, and are gone on behind
            self._file = None


def shard_name(prefix: str, number: int) -> str:
    """Name a tar.

    Args:
        prefix: What the name begins with.
        number: The tar's number.

    Returns:
        The name.
    """
    return f"{prefix}{number:06d}.tar"
