"""The samples of a folder of indexed tars, by number."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.data.curation.record import read_record
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.index_file import (
    RECORD_IS_CLASS,
    SUFFIX,
    Row,
    first_reason,
    sidecar_size,
)
from flava_plugin.data.shards.manifest import Manifest
from flava_plugin.data.shards.open_shard import OpenShard
from flava_plugin.data.shards.open_shards import OpenShards
from flava_plugin.data.shards.picture_formats import FORMATS
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.data.shards.records import (
    caption_of,
    class_of,
    labels_of,
    parse_record,
    text_of,
)
from flava_plugin.data.shards.selection import Selection
from flava_plugin.data.shards.store import LocalStore, Store
from flava_plugin.types import Modality, Sample

SIZES_KEPT = 512
"""Tars whose lengths of texts are kept: 20 MB of tars of 10,000 samples."""


class _Content(NamedTuple):
    image: bytes | None
    text: str | None
    extra: dict[str, Any]
    header: bytes


class ShardSet:
    """Samples of indexed tars; a process opens a tar when it first reads from it.

    Args:
        store: Where the tars are.
        manifest: The list of them.
        kind: What a sample has to hold.
        caption_key: Key of the JSON record that the caption is taken from; None takes the text
            member, and the record where there is none.
        labels: Keys of the JSON record that go into ``extra``.
        selection: Which samples are used; None for all.
        verify: Whether every sample is compared with its checksum.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        kind: Modality,
        *,
        caption_key: str | None = None,
        labels: Sequence[str] = (),
        selection: Selection | None = None,
        verify: bool = False,
    ) -> None:
        self.store = store
        self.manifest = manifest
        self.kind = kind
        self.caption_key = caption_key
        self.labels = tuple(labels)
        self.selection = selection
        self.verify = verify
        self.shard_lengths: NDArray[np.int64] = (
            manifest.samples if selection is None else selection.lengths
        )
        self._ends = np.cumsum(self.shard_lengths)
        self._shards = OpenShards(store, manifest, selection)
        self._sizes: dict[int, NDArray[np.uint32]] = {}
        if selection is not None:  # how it was made goes into the run's data.json
            self.coverage = read_record(selection.path, selection.fingerprint)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with the tars, their order and the selection."""
        if self.selection is None:
            return self.manifest.fingerprint
        both = f"{self.manifest.fingerprint} {self.selection.fingerprint}"
        return blake2b(both.encode(), digest_size=8).hexdigest()

    def files(self) -> list[Path]:
        """Tars of this machine; none of a remote store, of which the index says what they hold."""
        if not isinstance(self.store, LocalStore):
            return []
        return [self.store.folder / self.manifest.name(n) for n in range(len(self.manifest))]

    @property
    def shard_bytes(self) -> NDArray[np.int64]:
        """(S,) length of each tar in bytes."""
        return self.manifest.sizes

    def read(self, index: int, /) -> Sample:
        """Read a sample; its picture is opened, and decoded where it is used.

        Args:
            index: Of the sample.

        Returns:
            Picture, text and labels, as far as the kind has them.

        Raises:
            DamagedSampleError: It is not what it should be.
            OSError: The picture is none.
        """
        image, text, extra, _ = self._content(*self._find(index))
        return Sample(None if image is None else Image.open(io.BytesIO(image)), text, extra=extra)

    def read_raw(self, index: int, /) -> RawSample:
        """Read a sample without decoding its picture.

        Args:
            index: Of the sample.

        Returns:
            What ``read`` gives, the picture as its file is.

        Raises:
            DamagedSampleError: It is not what it should be.
        """
        shard, row = self._find(index)
        image, text, extra, header = self._content(shard, row)
        # an index of another version may know formats that this one does not
        known = FORMATS[row.format] if row.format < len(FORMATS) else ""
        name = shard.member(row, header)
        return RawSample(image, "" if image is None else known, text, extra, name)

    def read_text(self, index: int, /) -> str | None:
        """Read a caption and leave the picture where it is.

        Args:
            index: Of the sample.

        Returns:
            The caption; None where the kind has none.

        Raises:
            DamagedSampleError: It is not what it should be.
        """
        if self.kind == "image":
            return None
        shard, row = self._find(index)
        try:
            in_record = self._in_record(row)
            parts = shard.parts(row, image=False, text=not in_record, record=in_record)
            return self._caption(row, parts.text, parts.record)
        except DamagedSampleError as error:
            raise _placed(error, shard, row) from error

    def text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Look up how long texts are, in the indexes alone.

        Args:
            indices: Of samples.

        Returns:
            Bytes of each as it was indexed; 0 where there is none, or its tar has no sound index.
        """
        shards = self._ends.searchsorted(indices, "right")
        sizes = np.zeros(len(indices), np.int64)
        for shard in np.unique(shards).tolist():
            places = np.flatnonzero(shards == shard)
            try:
                column = self._text_sizes(shard)
            except DamagedSampleError:
                continue  # who reads these samples hears of it
            sizes[places] = column[indices[places] - self._begin(shard)]
        return sizes

    def neighbours(self, index: int, /) -> range:
        """List the samples of the same tar.

        Args:
            index: Of a sample.

        Returns:
            Their indices, its own among them.
        """
        shard = int(self._ends.searchsorted(index, "right"))
        return range(self._begin(shard), int(self._ends[shard]))

    def expect(self, shards: Sequence[int]) -> None:
        """Say which tars will be read soon; returns at once.

        Args:
            shards: Their numbers.
        """
        files: list[tuple[str, int, bytes]] = []
        for shard in shards:
            try:
                entry = self.manifest.entry(shard)
            except DamagedSampleError:
                continue  # who reads these samples hears of it
            files.append((entry.name + SUFFIX, sidecar_size(entry.samples), entry.index_digest))
            files.append((entry.name, entry.size, entry.digest))
        self.store.expect(files)

    def take_incidents(self) -> dict[str, int]:
        """Count what the store had to put right since the last call.

        Returns:
            Number by kind.
        """
        return self.store.take_incidents()

    def _text_sizes(self, shard: int) -> NDArray[np.uint32]:
        """Of all samples of a tar; length buckets ask for the same tars step after step."""
        if shard not in self._sizes:
            column = self._shards.table(shard)["text_size"].copy()
            while len(self._sizes) >= SIZES_KEPT:
                self._sizes.pop(next(iter(self._sizes)))
            self._sizes[shard] = column
        return self._sizes[shard]

    def _begin(self, shard: int) -> int:
        return int(self._ends[shard - 1]) if shard else 0

    def _find(self, index: int) -> tuple[OpenShard, Row]:
        """The open tar of a sample, and its row, if nothing is known to be wrong with it."""
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        number = int(self._ends.searchsorted(index, "right"))
        shard = self._shards.get(number)
        row = shard.row(index - self._begin(number))
        if row.flags:
            reason = first_reason(row.flags, self.kind)
            if reason is not None:
                raise DamagedSampleError(reason, f"{shard.member(row)}, found when it was indexed")
        return shard, row

    def _content(self, shard: OpenShard, row: Row) -> _Content:
        with_image, with_text = self.kind != "text", self.kind != "image"
        in_record = with_text and self._in_record(row)
        try:
            if with_image and not row.image_block:
                raise DamagedSampleError("no picture")
            if self.verify:
                shard.check_crc(row)
            image, text, record, header = shard.parts(
                row,
                image=with_image,
                text=with_text and not in_record,
                record=in_record or bool(self.labels) or row.spare == RECORD_IS_CLASS,
            )
            return _Content(
                image if with_image else None,
                self._caption(row, text, record) if with_text else None,
                self._extra(row, record),
                header,
            )
        except DamagedSampleError as error:
            raise _placed(error, shard, row) from error

    def _in_record(self, row: Row) -> bool:
        return self.caption_key is not None or not row.text_block

    def _caption(self, row: Row, text: bytes, record: bytes) -> str:
        if not self._in_record(row):
            return text_of(text)
        if not row.record_block or row.spare == RECORD_IS_CLASS:
            raise DamagedSampleError("no text")
        return caption_of(parse_record(record), self.caption_key or self.manifest.caption_key)

    def _extra(self, row: Row, record: bytes) -> dict[str, Any]:
        is_class = row.spare == RECORD_IS_CLASS
        extra: dict[str, Any] = {"class": class_of(record)} if is_class else {}
        if self.labels:
            if not row.record_block or is_class:
                raise DamagedSampleError("broken record", "there is none for the labels")
            extra |= labels_of(parse_record(record), self.labels)
        return extra


def _placed(error: DamagedSampleError, shard: OpenShard, row: Row) -> DamagedSampleError:
    """The same error with the sample's name, which costs a read and is looked up only now."""
    name = shard.member(row)
    detail = f"{name}: {error.detail}" if error.detail else name
    return DamagedSampleError(error.reason, detail)
