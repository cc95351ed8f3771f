"""Which source feeds a step: exact quotas, a pure function of the step, the same on every rank.

Here shares stay as they are; ``mixture_run`` joins parts of a run with shares of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.randomness import generator

LONGEST = 1000
"""Steps of the longest block: shares that fit no shorter one are rounded to thousandths."""

_NEAR = 1e-6

_ROUNDED = 0.01  # of a step: what a floor of exactly one step may lose when shares are rounded


def source_at(
    step: int, shares: Mapping[str, float], seed: int, first: int = 0, length: int | None = None
) -> str:
    """Choose the source of a step.

    Steps come in blocks. In every block each source has the same number of steps, in an order
    shuffled per block.

    Args:
        step: Optimiser step, counted from ``first``.
        shares: Share of steps by source; they need not add up to 1.
        seed: Seed of the run.
        first: First step of the run with these shares.
        length: How many steps they are planned for; None for no end.

    Returns:
        The name of the source.

    Raises:
        ValueError: No share is positive, or one is too small for a step per block.
    """
    names, counts = _quotas(tuple(sorted(shares.items())), length)
    block, place = divmod(step, sum(counts))
    return names[int(_arrangement(block, counts, seed, first)[place])]


def steps_before(
    step: int,
    source: str,
    shares: Mapping[str, float],
    seed: int,
    first: int = 0,
    length: int | None = None,
) -> int:
    """Count the steps of a source before a step, without walking through them.

    Args:
        step: Optimiser step, counted from ``first``.
        source: Name of the source.
        shares: As for ``source_at``.
        seed: Seed of the run.
        first: As for ``source_at``.
        length: As for ``source_at``.

    Returns:
        How many of the steps ``first`` to ``first + step - 1`` of the run are the source's.

    Raises:
        ValueError: As for ``source_at``.
    """
    names, counts = _quotas(tuple(sorted(shares.items())), length)
    number = names.index(source)
    block, place = divmod(step, sum(counts))
    if not place:  # the arrangement of a block that is over does not matter
        return block * counts[number]
    here = np.count_nonzero(_arrangement(block, counts, seed, first)[:place] == number)
    return block * counts[number] + int(here)


def quotas(shares: Mapping[str, float], length: int | None = None) -> dict[str, int]:
    """Count the steps of each source in a block.

    The block is the shortest one, of at most ``LONGEST`` steps, in which every source has a whole
    number of steps. Where there is none it has ``LONGEST``, and the largest remainders are rounded
    up. Shares planned for fewer steps than ``LONGEST`` have one block of just these.

    Args:
        shares: As for ``source_at``.
        length: As for ``source_at``.

    Returns:
        Steps of a block by source; their sum is the block's length.

    Raises:
        ValueError: As for ``source_at``.
    """
    names, counts = _quotas(tuple(sorted(shares.items())), length)
    return dict(zip(names, counts, strict=True))


@lru_cache(maxsize=256)
def _quotas(
    shares: tuple[tuple[str, float], ...], length: int | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names = tuple(name for name, _ in shares)
    given = np.array([share for _, share in shares], dtype=np.float64)
    if not given.size or not np.isfinite(given).all() or given.min() < 0 or given.sum() <= 0:
        raise ValueError(
            f"data.sources: shares {dict(shares)} must be at least 0, and one of them more; "
            "give every source that is to be read a positive share"
        )
    parts = given / given.sum()
    short = length is not None and length <= LONGEST
    block = length if length is not None and short else LONGEST
    counts = None if short else _exact(parts)
    if counts is None:
        counts = _largest_remainder(parts, block, _ROUNDED if short else 0.0)
    for (name, share), count in zip(shares, counts, strict=True):
        if share > 0 and count == 0:
            raise ValueError(
                f"data.sources.{name}.share: {share:g} of {given.sum():g} in all gives it no step "
                f"in {block}; raise it to at least {given.sum() / block:g}, or leave the "
                "source out"
            )
    return names, tuple(int(count) for count in counts)


def _exact(parts: NDArray[np.float64]) -> NDArray[np.int64] | None:
    for length in range(1, LONGEST + 1):
        wanted = parts * length
        counts = np.rint(wanted)
        if np.abs(wanted - counts).max() < _NEAR and (counts[parts > 0] > 0).all():
            return counts.astype(np.int64)
    return None


def _largest_remainder(parts: NDArray[np.float64], block: int, near: float) -> NDArray[np.int64]:
    wanted = parts * block
    counts = np.floor(wanted + near).astype(np.int64)
    missing = block - int(counts.sum())
    counts[np.argsort(counts - wanted, kind="stable")[:missing]] += 1
    return counts


@lru_cache(maxsize=64)
def _arrangement(block: int, counts: tuple[int, ...], seed: int, first: int) -> NDArray[np.int64]:
    steps = np.repeat(np.arange(len(counts)), counts)
    key = (block, first) if first else (block,)
    return generator(seed, "mixture", key).permutation(steps)
