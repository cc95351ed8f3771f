"""Several sets of pairs as one, such as FLAVA's PMD with its nine sources."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from flava_plugin import registry
from flava_plugin.data.raw_reading import read_raw
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.schema import DatasetSpec
from flava_plugin.types import Dataset, Sample

logger = logging.getLogger(__name__)

PSEUDO_SHARD = 10_000
"""Samples of a stretch that a set without shards is cut into, so that windows shuffle it too."""

PAPER: Mapping[str, float] = {
    "coco_captions": 0.9e6,
    "sbu": 1.0e6,
    "localized_narratives": 1.9e6,
    "cc3m": 3.1e6,
    "visual_genome": 5.4e6,
    "wit": 4.8e6,
    "cc12m": 11.0e6,
    "redcaps": 11.6e6,
    "yfcc100m": 30.3e6,
}
"""Pairs of each of PMD's sources, 70 M together: the table of pretraining data of Singh et al. 2021
(arXiv 2112.04482v3), as a third party transcribed it."""


def pmd(*, sources: Annotated[dict[str, DatasetSpec | None], Field(min_length=1)]) -> JoinedPairs:
    """Sets of pairs joined end to end, each in proportion to its size, as PMD joins its nine.

    Any registered datasets may be joined, shards included. ``extra`` has ``source``, the name of
    the set; other labels of the sets are left out, since not all sets have them. How much of the
    paper's table was found is logged at the start and kept as ``coverage``; a set counts as one of
    the paper's if its name or its type is one of coco_captions, sbu, localized_narratives, cc3m,
    visual_genome, wit, cc12m, redcaps and yfcc100m.

    Args:
        sources: Sets by name, each ``{type: cc3m, path: ...}`` with the options of its type; null
            leaves one out.

    Returns:
        The dataset.

    Raises:
        ValueError: A set cannot be built; the text names it.
    """
    chosen = {name: spec for name, spec in sources.items() if spec is not None}
    if not chosen:
        raise ValueError("sources: all are null; name one at least")
    built = {}
    for name, spec in chosen.items():
        try:
            built[name] = registry.datasets.build(spec.type, **spec.options)
        except ValueError as error:
            raise ValueError(f"sources.{name}: {error}") from error
    joined = JoinedPairs(built, {name: spec.type for name, spec in chosen.items()})
    joined.log()
    return joined


class JoinedPairs:
    """Datasets one behind the other.

    Args:
        datasets: By name.
        types: Registered name of each, by the same names.
    """

    kind = "pair"

    def __init__(self, datasets: Mapping[str, Dataset], types: Mapping[str, str]) -> None:
        self.names = tuple(datasets)
        self.datasets = tuple(datasets.values())
        lengths = [_shards(dataset) for dataset in self.datasets]
        self.shard_lengths: NDArray[np.int64] = np.concatenate(lengths)
        self._ends = np.cumsum([len(dataset) for dataset in self.datasets])
        self._shard_ends = np.cumsum([len(each) for each in lengths])
        self.fingerprint = _fingerprint(datasets)
        self.coverage = {
            name: _coverage(dataset, name, types[name]) for name, dataset in datasets.items()
        }
        if all(hasattr(dataset, "text_sizes") for dataset in self.datasets):
            self.text_sizes = self._text_sizes

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, index: int, /) -> Sample:
        """Read a pair.

        Args:
            index: Of the pair.

        Returns:
            Picture and caption; ``extra`` has ``source`` alone.
        """
        set_, place = self._find(index)
        sample = self.datasets[set_].read(place)
        return replace(sample, extra={"source": self.names[set_]})

    def read_text(self, index: int, /) -> str | None:
        """Read a caption, without its picture where the set can.

        Args:
            index: Of the pair.

        Returns:
            The caption, or None.
        """
        set_, place = self._find(index)
        dataset = self.datasets[set_]
        if hasattr(dataset, "read_text"):
            text: str | None = dataset.read_text(place)
            return text
        return dataset.read(place).text

    def read_raw(self, index: int, /) -> RawSample:
        """Read a pair without decoding its picture.

        Args:
            index: Of the pair.

        Returns:
            What the set gives, ``source`` added to its labels.
        """
        set_, place = self._find(index)
        raw = read_raw(self.datasets[set_], place)
        return replace(raw, extra={**raw.extra, "source": self.names[set_]})

    def neighbours(self, index: int) -> range:
        """Tell which samples lie in the same shard, or stretch of a set without shards.

        Args:
            index: Of a pair.

        Returns:
            Their indices.
        """
        set_, place = self._find(index)
        dataset: Any = self.datasets[set_]
        before = int(self._ends[set_]) - len(dataset)
        if hasattr(dataset, "neighbours"):
            near: range = dataset.neighbours(place)
            return range(near.start + before, near.stop + before)
        start = place - place % PSEUDO_SHARD
        return range(start + before, min(start + PSEUDO_SHARD, len(dataset)) + before)

    def expect(self, shards: Sequence[int]) -> None:
        """Tell the sets which of their shards will be read soon.

        Args:
            shards: Numbers of shards, as in ``shard_lengths``.
        """
        wanted: dict[int, list[int]] = {}
        for shard in shards:
            set_ = int(np.searchsorted(self._shard_ends, shard, side="right"))
            before = int(self._shard_ends[set_ - 1]) if set_ else 0
            wanted.setdefault(set_, []).append(int(shard) - before)
        for set_, own in wanted.items():
            dataset: Any = self.datasets[set_]
            if hasattr(dataset, "expect"):
                dataset.expect(own)

    def take_incidents(self) -> dict[str, int]:
        """Count what happened to remote sets since it was last asked.

        Returns:
            Number by kind, over all sets.
        """
        total: dict[str, int] = {}
        for dataset in self.datasets:
            taken: dict[str, int] = getattr(dataset, "take_incidents", dict)()
            for kind, number in taken.items():
                total[kind] = total.get(kind, 0) + number
        return total

    def log(self) -> None:
        """Tell what each set holds, and how much of the paper's that is."""
        for name, facts in self.coverage.items():
            out = ", ".join(f"{count:,} {reason}" for reason, count in facts["dropped"].items())
            share = facts.get("share_of_paper")
            of = "" if share is None else f", {share:.1%} of the paper's {facts['paper_pairs']:,}"
            logger.info(
                "%s: %s pairs%s; left out: %s", name, f"{facts['pairs']:,}", of, out or "none"
            )
        absent = [name for name in PAPER if not any(f.get("paper") == name for f in self._facts())]
        logger.info(
            "%s pairs of %d sets; of the paper's nine there %s not: %s",
            *(f"{len(self):,}", len(self.names), "is" if len(absent) == 1 else "are"),
            ", ".join(absent) or "none",
        )

    def _facts(self) -> list[dict[str, Any]]:
        return list(self.coverage.values())

    def _text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        sizes = np.zeros(len(indices), dtype=np.int64)
        sets = np.searchsorted(self._ends, indices, side="right")
        for set_ in np.unique(sets):
            dataset: Any = self.datasets[set_]
            before = int(self._ends[set_]) - len(dataset)
            sizes[sets == set_] = dataset.text_sizes(indices[sets == set_] - before)
        return sizes

    def _find(self, index: int) -> tuple[int, int]:
        index = range(len(self))[index]
        set_ = int(np.searchsorted(self._ends, index, side="right"))
        return set_, index - (int(self._ends[set_ - 1]) if set_ else 0)


def _shards(dataset: Dataset) -> NDArray[np.int64]:
    """A set's own shards, or stretches of ``PSEUDO_SHARD``."""
    own = getattr(dataset, "shard_lengths", None)
    if own is not None:
        return np.asarray(own, dtype=np.int64)
    full, rest = divmod(len(dataset), PSEUDO_SHARD)
    return np.array([PSEUDO_SHARD] * full + [rest] * (rest > 0), dtype=np.int64)


def _fingerprint(datasets: Mapping[str, Dataset]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, dataset in datasets.items():
        own = getattr(dataset, "fingerprint", "")
        digest.update(f"{name}\n{len(dataset)}\n{own}\n".encode())
    return digest.hexdigest()


def _coverage(dataset: Dataset, name: str, kind: str) -> dict[str, Any]:
    own = dict(getattr(dataset, "coverage", {}))
    facts = {"type": kind, "pairs": len(dataset), "dropped": {}, **own}
    facts["fingerprint"] = getattr(dataset, "fingerprint", None)
    paper = next((known for known in (name, kind) if known in PAPER), None)
    if paper is not None:
        facts["paper"] = paper
        facts["paper_pairs"] = round(PAPER[paper])
        facts["share_of_paper"] = round(len(dataset) / PAPER[paper], 4)
    return facts
