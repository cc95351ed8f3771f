"""Some samples of any dataset: those that ``flava data curate`` chose."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin import registry
from flava_plugin.data.curation.parts import parts_of
from flava_plugin.data.curation.record import read_record
from flava_plugin.data.identity import fingerprint
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.data.shards.selection import Selection
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.schema import DatasetSpec, InputPath
from flava_plugin.types import Dataset, Sample


def selected(*, dataset: DatasetSpec, selection: InputPath) -> Selected:
    """The samples of a dataset that a selection keeps; shards have the option ``selection``.

    Args:
        dataset: The dataset that was curated, with the same options: ``{type: ..., ...}``.
        selection: ``selection.safetensors`` of ``flava data curate``.

    Returns:
        The dataset of these samples alone.

    Raises:
        ValueError: The selection was made for another dataset, or keeps nothing.
    """
    whole = registry.datasets.build(dataset.type, **dataset.options)
    if isinstance(whole, ShardSet):
        raise ValueError(f"set dataset: {{type: {dataset.type}, selection: {selection}, ...}}")
    parts = parts_of(whole)
    chosen = Selection(selection, parts.manifest)
    rows = [chosen.rows(part) + parts.indices(part).start for part in range(len(parts))]
    places = np.concatenate(rows)
    if not len(places):
        raise ValueError(f"{selection}: keeps no sample; see curation.json beside it")
    return Selected(whole, places, chosen)


class Selected:
    """A dataset seen through a selection.

    Args:
        dataset: All samples.
        places: Indices of those that are used, ascending.
        selection: Where these come from.
    """

    def __init__(self, dataset: Dataset, places: NDArray[np.int64], selection: Selection) -> None:
        self.dataset: Any = dataset
        self.places = places
        mark = f"{fingerprint(dataset)} {selection.fingerprint}"
        self.fingerprint = blake2b(mark.encode(), digest_size=8).hexdigest()
        self.coverage = read_record(selection.path, selection.fingerprint)
        if hasattr(dataset, "coverage"):
            self.coverage["dataset"] = dataset.coverage
        for name in ("read_text", "read_raw", "text_sizes", "neighbours"):
            if hasattr(dataset, name):
                setattr(self, name, getattr(self, f"_{name}"))
        shards = getattr(dataset, "shard_lengths", None)
        if shards is not None:
            ends = np.searchsorted(places, np.cumsum(shards))
            self.shard_lengths: NDArray[np.int64] = np.diff(ends, prepend=0).astype(np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int, /) -> Sample:
        """Read a sample.

        Args:
            index: Among those that are used.

        Returns:
            What the dataset gives.
        """
        sample: Sample = self.dataset.read(int(self.places[index]))
        return sample

    def expect(self, shards: Sequence[int]) -> None:
        """Say which shards will be read soon.

        Args:
            shards: Their numbers.
        """
        if hasattr(self.dataset, "expect"):
            self.dataset.expect(shards)

    def take_incidents(self) -> dict[str, int]:
        """Count what the dataset's store had to put right.

        Returns:
            Number by kind.
        """
        taken: dict[str, int] = getattr(self.dataset, "take_incidents", dict)()
        return taken

    def _read_text(self, index: int) -> str | None:
        text: str | None = self.dataset.read_text(int(self.places[index]))
        return text

    def _read_raw(self, index: int) -> RawSample:
        raw: RawSample = self.dataset.read_raw(int(self.places[index]))
        return raw

    def _neighbours(self, index: int) -> range:
        near: range = self.dataset.neighbours(int(self.places[index]))
        first, end = np.searchsorted(self.places, [near.start, near.stop]).tolist()
        return range(first, end)

    def _text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = self.dataset.text_sizes(self.places[indices])
        return sizes
