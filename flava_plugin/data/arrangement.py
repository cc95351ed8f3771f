"""In which order an epoch passes through a dataset: any place of it is computed on its own.

``Everything`` shuffles the whole dataset. ``Streams`` shuffles shards and then what lies near: a
rank needs only the shards of its own streams' windows at a time, however large the dataset is.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.permutation import permute
from flava_plugin.data.randomness import key_of, mix

Places = NDArray[np.int64]


class Arrangement(Protocol):
    """An order of the samples of an epoch.

    Attributes:
        length: Samples of an epoch.
        streams: Place p of an epoch belongs to stream ``p % streams``.
    """

    length: int
    streams: int

    def indices(self, epoch: int, places: Places) -> Places:
        """Look up samples.

        Args:
            epoch: Number of the epoch.
            places: (n,) of ``range(length)``.

        Returns:
            (n,) indices of the dataset.
        """
        ...


class Everything:
    """A shuffle of the whole dataset, for what can be read anywhere at the same cost.

    Args:
        source: Name of the source.
        length: Samples of an epoch.
        seed: Seed of the run.
    """

    streams = 1

    def __init__(self, source: str, length: int, seed: int) -> None:
        self.source = source
        self.length = length
        self.seed = seed

    def indices(self, epoch: int, places: Places) -> Places:
        """Look up samples; see ``Arrangement``."""
        word = key_of(self.seed, "order", self.source, epoch)[0]
        return permute(places, self.length, word)


class Streams:
    """Shards in a new order each epoch, cut into streams that are shuffled window by window.

    The samples of the shuffled shards, one after the other, are cut into ``streams`` parts of equal
    length, which differ by one sample at most. Place p of an epoch is place ``p // streams`` of
    stream ``p % streams``. Each stream is cut into windows, and each window shuffled. Windows of
    different streams begin at different times, so that shards are asked for one by one and not all
    at once.

    Where the number of ranks divides ``streams`` and that divides the global batch, a rank reads
    only its own streams during an epoch.

    Args:
        source: Name of the source.
        shard_lengths: (S,) samples of each shard.
        seed: Seed of the run.
        streams: Number of streams; no more than there are samples.
        window: Samples of a window.
    """

    def __init__(
        self, source: str, shard_lengths: Places, seed: int, *, streams: int, window: int
    ) -> None:
        self.source = source
        self.shard_lengths = np.asarray(shard_lengths, dtype=np.int64)
        self.seed = seed
        self.window = window
        self.length = int(self.shard_lengths.sum())
        self.streams = max(1, min(streams, self.length))
        self._starts = np.cumsum(self.shard_lengths) - self.shard_lengths
        self._shuffled: dict[int, tuple[Places, Places]] = {}

    def indices(self, epoch: int, places: Places) -> Places:
        """Look up samples; see ``Arrangement``."""
        place, stream = np.divmod(places, self.streams)
        number, low, high = self._windows(stream, place)
        word = key_of(self.seed, "window", self.source, epoch)[0]
        keys = mix(mix(stream.astype(np.uint64)) ^ number.astype(np.uint64)) ^ word
        inside = permute(place - low, high - low, keys)
        order, ends = self._shards(epoch)
        position = self._begin(stream) + low + inside
        slot = np.searchsorted(ends, position, side="right")
        shard = order[slot]
        row = position - (ends[slot] - self.shard_lengths[shard])
        return np.asarray(self._starts[shard] + row, dtype=np.int64)

    def windows(self, places: Places) -> list[tuple[int, int]]:
        """Tell the windows that places of an epoch lie in.

        Args:
            places: (n,) of ``range(length)``.

        Returns:
            Pairs of stream and window, each once.
        """
        place, stream = np.divmod(places, self.streams)
        number, _, _ = self._windows(stream, place)
        pairs = np.unique(np.stack([stream, number], axis=1), axis=0)
        return [(int(stream), int(number)) for stream, number in pairs]

    def shards_of(self, epoch: int, stream: int, window: int) -> list[int]:
        """List the shards that a window reads.

        Args:
            epoch: Number of the epoch.
            stream: Number of the stream.
            window: Number of the window; there may be none behind the last one.

        Returns:
            Numbers of shards, in the epoch's order; empty where there is no such window.
        """
        number, long = np.array([stream]), self._long(np.array([stream]))
        shift = self._shift(number)
        low = int(np.maximum(0, window * self.window - shift)[0])
        high = int(np.minimum(long, (window + 1) * self.window - shift)[0])
        if low >= high:
            return []
        order, ends = self._shards(epoch)
        begin = int(self._begin(number)[0])
        first, last = np.searchsorted(ends, [begin + low, begin + high - 1], side="right")
        found = order[first : last + 1]
        return [int(shard) for shard in found[self.shard_lengths[found] > 0]]

    def _windows(self, stream: Places, place: Places) -> tuple[Places, Places, Places]:
        """Number, first place and end of the windows that places of streams lie in."""
        shift = self._shift(stream)
        number = (place + shift) // self.window
        low = np.maximum(0, number * self.window - shift)
        high = np.minimum(self._long(stream), (number + 1) * self.window - shift)
        return number, low, high

    def _shift(self, stream: Places) -> Any:
        """By how many samples the windows of a stream begin early."""
        return stream * self.window // self.streams

    def _long(self, stream: Places) -> Any:
        """Samples of streams."""
        whole, more = divmod(self.length, self.streams)
        return whole + (stream < more)

    def _begin(self, stream: Places) -> Any:
        """Where streams begin among all samples of an epoch."""
        whole, more = divmod(self.length, self.streams)
        return stream * whole + np.minimum(stream, more)

    def _shards(self, epoch: int) -> tuple[Places, Places]:
        """Shards in the order of an epoch, and where each ends."""
        if epoch not in self._shuffled:
            count = len(self.shard_lengths)
            word = key_of(self.seed, "shards", self.source, epoch)[0]
            order = permute(np.arange(count), count, word)
            while len(self._shuffled) > 1:  # a batch straddles two epochs at most, as a rule
                self._shuffled.pop(next(iter(self._shuffled)))
            self._shuffled[epoch] = order, np.cumsum(self.shard_lengths[order])
        return self._shuffled[epoch]
