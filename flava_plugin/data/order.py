"""Which samples a step reads: a pure function of the seed and the step, whoever asks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        length: Samples of an epoch.
        seed: Seed of the run.
        matching: Which rows become ITM negatives; None for none.
        global_batch: Rows of a step over all ranks.

    Raises:
        ValueError: The source is empty.
    """

    def __init__(
        self,
        source: str,
        length: int,
        seed: int,
        matching: MatchingSection | None,
        global_batch: int,
    ) -> None:
        if length < 1:
            raise ValueError(
                f"data.sources.{source}.dataset: it holds no sample; check its path and split"
            )
        self.source = source
        self.length = length
        self.seed = seed
        self.matching = matching
        self.global_batch = global_batch

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

    def _negative(self, n: int, places: NDArray[Any]) -> NDArray[np.bool_]:
        assert self.matching is not None
        word = key_of(self.seed, "itm", self.source, n)[0]
        return uniform(word, places) < self.matching.negatives

    def _candidates(
        self, n: int, places: NDArray[np.int64], word: np.uint64
    ) -> list[tuple[Key, ...]]:
        assert self.matching is not None
        others = self.global_batch - 1
        tries = min(self.matching.tries, others)
        if not tries or not places.size:
            return [()] * len(places)
        # a permutation per row of the distances to all other rows: distinct, and never the row
        keys = mix(places.astype(np.uint64) ^ word)[:, None]
        distances = 1 + permute(np.arange(tries)[None, :], others, keys)
        chosen = (places[:, None] + distances) % self.global_batch
        flat = self._keys(n, chosen.ravel())
        return [tuple(flat[start : start + tries]) for start in range(0, len(flat), tries)]

    def _keys(self, n: int, places: NDArray[np.int64]) -> list[Key]:
        epochs, positions = np.divmod(places + n * self.global_batch, self.length)
        distinct, inverse = np.unique(epochs, return_inverse=True)
        words = np.array(
            [key_of(self.seed, "order", self.source, int(epoch))[0] for epoch in distinct],
            dtype=np.uint64,
        )
        indices = permute(positions, self.length, words[inverse])
        return [
            Key(self.source, epoch, index)
            for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True)
        ]
