"""Which samples a step reads: a pure function of the seed and the step, whoever asks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.arrangement import Arrangement, Streams
from flava_plugin.data.buckets import Buckets
from flava_plugin.data.permutation import permute
from flava_plugin.data.randomness import key_of, mix, uniform
from flava_plugin.sections_data import MatchingSection
from flava_plugin.types import Key


class Row(NamedTuple):
    """A row of a global batch.

    Attributes:
        key: Its sample.
        negative: Whether it is to become an ITM negative.
        hard: Whether it then takes the dataset's own hard negative where there is one.
        candidates: The samples of other rows of the same global batch, whose captions a negative
            tries in this order; empty where the row is no negative.
    """

    key: Key
    negative: bool = False
    hard: bool = False
    candidates: tuple[Key, ...] = ()


class Order:
    """The order of one source: shuffled epochs, one after the other, cut into global batches.

    Batches straddle epochs, so that nothing is dropped, and a batch longer than the dataset holds
    samples more than once.

    Args:
        source: Name of the source.
        arrangement: The order of an epoch.
        seed: Seed of the run.
        matching: Which rows become ITM negatives; None for none.
        global_batch: Rows of a step over all ranks.
        buckets: What deals rows of like length into the same batch; None for none.
    """

    def __init__(
        self,
        source: str,
        arrangement: Arrangement,
        seed: int,
        matching: MatchingSection | None,
        global_batch: int,
        buckets: Buckets | None = None,
    ) -> None:
        self.source = source
        self.arrangement = arrangement
        self.seed = seed
        self.matching = matching
        self.global_batch = global_batch
        self.buckets = buckets
        self._soon: set[tuple[int, int, int]] = set()

    @property
    def length(self) -> int:
        """Samples of an epoch."""
        return self.arrangement.length

    def epoch(self, n: int) -> int:
        """Count the epochs that are over when a batch begins.

        Args:
            n: How many steps of this source come before.

        Returns:
            Their number.
        """
        return n * self.global_batch // self.length

    def rows(self, n: int, rank: int = 0, size: int = 1) -> list[Row]:
        """List a rank's rows of a global batch.

        Args:
            n: How many steps of this source come before (``mixture.steps_before``).
            rank: Which rank asks.
            size: Number of ranks.

        Returns:
            Rows ``rank``, ``rank + size`` and so on of the global batch; all of them by default.
        """
        places = np.arange(rank, self.global_batch, size, dtype=np.int64)
        keys = self._keys(n, places)
        if self.matching is None:
            return [Row(key) for key in keys]
        negative = self._negative(n, places)
        words = key_of(self.seed, "itm caption", self.source, n)
        hard = uniform(words[0], places) < self.matching.hard
        candidates = self._candidates(n, places[negative], words[1])
        others = iter(candidates)
        return [
            Row(key, True, bool(rather), next(others)) if wrong else Row(key)
            for key, wrong, rather in zip(keys, negative, hard, strict=True)
        ]

    def counts_all(self, n: int) -> bool:
        """Tell whether MMM and the contrastive loss count every row of a global batch.

        They count matched pairs only, but where ``matching.no_positives`` is ``all`` and the order
        makes a negative of every row, they count all, as both public implementations do. It looks
        at the order of the whole global batch, so that every rank says the same.

        Args:
            n: How many steps of this source come before.

        Returns:
            Whether every row counts, matched or not.
        """
        if self.matching is None:
            return True
        if self.matching.no_positives != "all":
            return False
        return bool(self._negative(n, np.arange(self.global_batch)).all())

    def shards_soon(self, n: int, rank: int = 0, size: int = 1) -> list[int]:
        """List the shards of windows that a batch enters, and then of those behind them.

        Args:
            n: How many steps of this source come before.
            rank: Which rank asks.
            size: Number of ranks.

        Returns:
            Numbers of shards that this order has not listed yet, the most urgent first.
        """
        if not isinstance(self.arrangement, Streams):
            return []
        places = np.arange(rank, self.global_batch, size, dtype=np.int64)
        epochs, inside = np.divmod(self._positions(n, places), self.length)
        entered = [
            (epoch, stream, window)
            for epoch in np.unique(epochs).tolist()
            for stream, window in self.arrangement.windows(inside[epochs == epoch])
        ]
        behind = [(epoch, stream, window + 1) for epoch, stream, window in entered]
        fresh = [each for each in (*entered, *behind) if each not in self._soon]
        self._soon = {*entered, *behind}
        shards = [shard for each in fresh for shard in self.arrangement.shards_of(*each)]
        return list(dict.fromkeys(shards))

    def indices_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Look up samples of the run, without buckets.

        Args:
            positions: Counted in samples of this source from the start of the run.

        Returns:
            Indices of the dataset, of that shape.
        """
        return self._indices(*np.divmod(positions, self.length))

    def _negative(self, n: int, places: NDArray[Any]) -> NDArray[np.bool_]:
        assert self.matching is not None
        word = key_of(self.seed, "itm", self.source, n)[0]
        return uniform(word, places) < self.matching.negatives

    def _candidates(
        self, n: int, places: NDArray[np.int64], word: np.uint64
    ) -> list[tuple[Key, ...]]:
        assert self.matching is not None
        # rows of the same stream, whose shards the rank reads anyway, where a batch has several
        streams = self.arrangement.streams
        stride = streams if not self.global_batch % streams and self.global_batch > streams else 1
        others = self.global_batch // stride - 1
        tries = min(self.matching.tries, others)
        if not tries or not places.size:
            return [()] * len(places)
        # a permutation per row of the distances to all other rows: distinct, and never the row
        keys = mix(places.astype(np.uint64) ^ word)[:, None]
        distances = stride * (1 + permute(np.arange(tries)[None, :], others, keys))
        chosen = (places[:, None] + distances) % self.global_batch
        flat = self._keys(n, chosen.ravel())
        return [tuple(flat[start : start + tries]) for start in range(0, len(flat), tries)]

    def _keys(self, n: int, places: NDArray[np.int64]) -> list[Key]:
        epochs, inside = np.divmod(self._positions(n, places), self.length)
        indices = self._indices(epochs, inside)
        return [
            Key(self.source, epoch, index)
            for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True)
        ]

    def _positions(self, n: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in the run, counted in samples of this source, rows of a global batch stand."""
        if self.buckets is None:
            return places + n * self.global_batch
        return self.buckets.positions(n, places)

    def _indices(self, epochs: NDArray[np.int64], inside: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.empty(len(inside), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            of_epoch = epochs == epoch
            found[of_epoch] = self.arrangement.indices(epoch, inside[of_epoch])
        return found
