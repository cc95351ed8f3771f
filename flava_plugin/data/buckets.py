"""Batches of texts of like length, so that little of them is padding, in an exact order.

Whole global batches are taken together, their rows sorted by length and dealt out again. So what a
batch holds is a function of its number alone, and after every such group each sample has been read
just as often as without buckets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.permutation import permute
from flava_plugin.data.randomness import key_of

Places = NDArray[np.int64]


class Buckets:
    """Deals out the rows of groups of global batches by length.

    Rows change places only within their stream, so that a rank goes on reading its own shards
    alone. Every stream gives its shortest rows to the same batch, and so on up to its longest.

    Args:
        source: Name of the source.
        seed: Seed of the run.
        group: Global batches of a group.
        global_batch: Rows of a global batch.
        streams: Number of streams; it divides the global batch.
        sizes: Positions of rows in the run -> their lengths.
    """

    def __init__(
        self,
        source: str,
        seed: int,
        *,
        group: int,
        global_batch: int,
        streams: int,
        sizes: Callable[[Places], Places],
    ) -> None:
        self.source = source
        self.seed = seed
        self.group = group
        self.global_batch = global_batch
        self.streams = streams
        self.sizes = sizes
        self._dealt: dict[int, dict[int, Places]] = {}

    def positions(self, n: int, places: Places) -> Places:
        """Look up the rows of a global batch.

        Args:
            n: How many batches of this source come before.
            places: (m,) rows of the batch.

        Returns:
            (m,) positions in the run: without buckets these are ``n * global_batch + places``.
        """
        number, turn = divmod(n, self.group)
        streams, where = np.unique(places % self.streams, return_inverse=True)
        dealt = self._deal(number, streams)
        word = key_of(self.seed, "buckets", self.source, number)[0]
        bucket = int(permute(np.array([turn]), self.group, word)[0])
        rows = np.stack([dealt[int(stream)][bucket] for stream in streams])
        found: Places = rows[where, places // self.streams]
        return found

    def _deal(self, number: int, streams: Places) -> dict[int, Places]:
        """By stream, (group, rows of the stream in a batch) positions, shorter rows first."""
        known = self._dealt.setdefault(number, {})
        while len(self._dealt) > 2:
            self._dealt.pop(next(iter(self._dealt)))
        missing = np.array([stream for stream in streams.tolist() if stream not in known])
        if missing.size:
            rows = self.group * self.global_batch // self.streams
            first = number * self.group * self.global_batch
            positions = first + missing[:, None] + self.streams * np.arange(rows)[None, :]
            lengths = self.sizes(positions.ravel()).reshape(positions.shape)
            order = np.argsort(lengths, axis=1, kind="stable")
            dealt = np.take_along_axis(positions, order, axis=1)
            for stream, row in zip(missing.tolist(), dealt, strict=True):
                known[stream] = row.reshape(self.group, -1)
        return known
