"""Texts cut from files of paragraphs, read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts.paragraphs import Paragraphs
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.types import Sample


class Packs(NamedTuple):
    """Where packed texts start; each ends where the next one starts.

    Attributes:
        files: (N,) uint32, the file.
        addresses: (N,) uint64, the paragraph's address in it.
        places: (N,) uint32, the character in the paragraph.
        sizes: (N,) uint32, bytes of the text in UTF-8.
        tokens: (N,) uint32, its tokens without [CLS] and [SEP]; 0 where nobody counted.
    """

    files: NDArray[np.uint32]
    addresses: NDArray[np.uint64]
    places: NDArray[np.uint32]
    sizes: NDArray[np.uint32]
    tokens: NDArray[np.uint32]


class PackedTexts:
    """Texts that are read from their files when they are asked for, 24 bytes each until then.

    Args:
        files: The files.
        packs: Where the texts start.
        digest: Hash of the texts.
        coverage: What was found and left out.
    """

    kind = "text"

    def __init__(
        self, files: Sequence[Paragraphs], packs: Packs, digest: str, coverage: dict[str, Any]
    ) -> None:
        self.files = list(files)
        self.packs = packs
        self.fingerprint = digest
        self.coverage = coverage
        for column in packs:
            column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.packs.files)

    @cached_property
    def mean_tokens(self) -> float:
        """Tokens of a text on average, [CLS] and [SEP] not counted."""
        return float(self.packs.tokens.mean())

    def read(self, index: int, /) -> Sample:
        """Read a text.

        Args:
            index: Of the text.

        Returns:
            Its sentences, joined by blanks.

        Raises:
            DamagedSampleError: The file has changed since the texts were cut.
        """
        return Sample(text=self.read_text(index))

    def read_text(self, index: int, /) -> str:
        """Read a text as a plain string.

        Args:
            index: Of the text.

        Returns:
            The text.

        Raises:
            DamagedSampleError: The file has changed since the texts were cut.
        """
        index = range(len(self))[index]
        packs = self.packs
        file, place = int(packs.files[index]), int(packs.places[index])
        address = int(packs.addresses[index])
        stop = index + 1 if index + 1 < len(self) else None
        last = int(packs.files[stop]) if stop is not None else len(self.files) - 1
        parts: list[str] = []
        try:
            while file <= last:
                for here, text in self.files[file].scan(address):
                    at_end = stop is not None and (file, here) == (last, packs.addresses[stop])
                    until = int(packs.places[stop]) if at_end and stop is not None else None
                    if isinstance(text, str):
                        parts.append(text[place:until])
                    place = 0
                    if at_end:
                        file = last
                        break
                file, address = file + 1, 0
        except (OSError, ValueError) as error:
            raise DamagedSampleError("broken record", str(error)) from error
        found = " ".join(" ".join(parts).split())
        if len(found.encode("utf-8")) != packs.sizes[index]:
            raise DamagedSampleError("broken record", f"text {index}: its file has changed")
        return found

    def read_raw(self, index: int, /) -> RawSample:
        """Read a text as packing and counting want it.

        Args:
            index: Of the text.

        Returns:
            The text alone.
        """
        return RawSample(text=self.read_text(index), name=f"text {index}")

    def text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tell how long texts are.

        Args:
            indices: Of texts.

        Returns:
            Bytes of each in UTF-8.
        """
        sizes: NDArray[np.int64] = self.packs.sizes[indices].astype(np.int64)
        return sizes
