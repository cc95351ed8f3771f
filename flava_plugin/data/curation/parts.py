"""A source cut into the parts that are scanned one by one: its tars, or runs of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.identity import fingerprint
from flava_plugin.data.shards.manifest import Manifest, ShardEntry, gather
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.types import Dataset

PART = 10_000
"""Samples of a part where the source is no folder of shards."""


@dataclass(frozen=True)
class Parts:
    """A source and its parts.

    Attributes:
        dataset: All of its samples, in order.
        manifest: Of its tars; of parts made up where it has none.
    """

    dataset: Dataset
    manifest: Manifest

    def __len__(self) -> int:
        """Number of parts."""
        return len(self.manifest)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """(parts,) where each ends among all samples."""
        return np.cumsum(self.manifest.samples)

    @property
    def samples(self) -> int:
        """Samples of all parts."""
        return int(self.ends[-1])

    def indices(self, part: int) -> range:
        """Give the samples of a part.

        Args:
            part: Its number.

        Returns:
            Their indices in the dataset.
        """
        end = int(self.ends[part])
        return range(end - int(self.manifest.samples[part]), end)

    def content(self, part: int) -> str:
        """Name what a part holds.

        Args:
            part: Its number.

        Returns:
            Hex digits that change with the tar or the dataset.
        """
        entry = self.manifest.entry(part)
        return (entry.digest + entry.index_digest).hex()


def parts_of(dataset: Any) -> Parts:
    """Cut a dataset into parts.

    Args:
        dataset: Any map-style dataset.

    Returns:
        Its tars where it is a set of shards; else runs of ``PART`` samples, in a manifest made up
        of its ``fingerprint`` (of its length where it has none).

    Raises:
        ValueError: It is empty, or has a selection already.
    """
    if isinstance(dataset, ShardSet):
        if dataset.selection is not None:
            raise ValueError(
                "the source has a selection already; curate all of it, with the steps of both"
            )
        return Parts(dataset, dataset.manifest)
    if not len(dataset):
        raise ValueError("the source holds no sample")
    mark = fingerprint(dataset)
    entries = [
        ShardEntry(
            f"samples-{first:012d}",
            min(PART, len(dataset) - first),
            0,
            blake2b(f"{mark} {first}".encode(), digest_size=16).digest(),
            bytes(16),
        )
        for first in range(0, len(dataset), PART)
    ]
    return Parts(dataset, gather(entries, kind="pair", caption_key="", faults={}))
