"""Pictures that look alike, found by their hashes without comparing every two.

Hashes that differ in at most d bits, cut into b blocks, agree in at least b - d whole blocks. So
all that agree in some choice of b - d blocks are compared, for every choice: with b = d + 1 these
are the d + 1 bands of the pigeonhole principle, with more blocks there are more choices and far
fewer that agree by chance. At 10 million pictures this takes 90 bytes each, and with 4 bits half a
minute. Only hashes that differ are compared; where very many are alike in most bits but not in all,
time grows with the square of their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.duplicates import group_report, one_of_each
from flava_plugin.data.curation.perceptual import differing_bits

BITS = 64
Hashes = NDArray[np.uint64]
_Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]

_SORT, _COMPARE = 100.0, 10.0  # nanoseconds: to sort a hash, and to compare two
_AT_ONCE = 1_000_000  # pairs that are joined together


def drop_near(
    kept: NDArray[np.bool_],
    hashes: Hashes,
    known: NDArray[np.bool_],
    distance: int,
    values: NDArray[np.float32] | None,
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Keep one of each group of pictures that look alike.

    Args:
        kept: (samples,) which are left.
        hashes: (samples,) perceptual hashes.
        known: (samples,) which have one; the others all stay.
        distance: Most bits in which neighbours in a group differ.
        values: (samples,) of which the largest stays; None, and equals: the first in order.

    Returns:
        (samples,) which are left, and the groups.
    """
    places = np.flatnonzero(kept & known)
    groups = groups_of(hashes[places], distance)
    stays, sizes = one_of_each(groups, None if values is None else values[places])
    left = kept.copy()
    left[places[~stays]] = False
    return left, group_report(sizes)


def groups_of(hashes: Hashes, distance: int) -> NDArray[np.int32]:
    """Find what hangs together by steps of few bits.

    Args:
        hashes: (n,) hashes, n below two thousand millions.
        distance: Most bits of a step.

    Returns:
        (n,) a number for each group.
    """
    different, group_of = np.unique(hashes, return_inverse=True)
    group_of = group_of.astype(np.int32)
    groups = np.arange(len(different), dtype=np.int32)
    if distance and len(different) > 1:
        found: list[_Pairs] = []
        waiting = 0
        for mask in masks(len(different), distance):
            for pair in _near(different, mask, distance):
                found.append(pair)
                waiting += len(pair[0])
                if waiting > _AT_ONCE:
                    _join(groups, found)
                    waiting = 0
            _join(groups, found)
    return groups[group_of]


def masks(number: int, distance: int) -> Iterator[np.uint64]:
    """List the choices of bits of which one is equal in any two hashes that are near.

    Args:
        number: How many hashes there are; how the bits are cut follows from it.
        distance: Most bits in which near ones differ.

    Yields:
        Masks of the bits that agree.
    """

    def cost(blocks: int) -> float:
        equal = BITS * (blocks - distance) // blocks
        return comb(blocks, distance) * (_SORT + _COMPARE * number / 2.0 ** (equal + 1))

    blocks = min(range(distance + 1, 2 * distance + 3), key=cost)
    bounds = [BITS * n // blocks for n in range(blocks + 1)]
    cut = [(1 << high) - (1 << low) for low, high in zip(bounds, bounds[1:], strict=False)]
    for chosen in combinations(cut, blocks - distance):
        yield np.uint64(sum(chosen))


def _near(hashes: Hashes, mask: np.uint64, distance: int) -> Iterator[_Pairs]:
    """Pairs that agree under a mask and are near, as places in ``hashes``."""
    keys = hashes & mask
    order = np.argsort(keys, kind="stable").astype(np.int32)
    keys = keys[order]
    # neighbours in sorted order, then every second, and so on while their keys are equal
    starts = np.flatnonzero(keys[1:] == keys[:-1]).astype(np.int32)
    step = 1
    while len(starts):
        first, second = order[starts], order[starts + step]
        near = differing_bits(hashes[first], hashes[second]) <= distance
        if near.any():
            yield first[near], second[near]
        step += 1
        starts = starts[starts < len(keys) - step]
        starts = starts[keys[starts + step] == keys[starts]]


def _join(groups: NDArray[np.int32], found: list[_Pairs]) -> None:
    """Make the groups of each pair one, and forget the pairs.

    ``groups`` holds for each place its group's first member.
    """
    if not found:
        return
    first = np.concatenate([pair[0] for pair in found])
    second = np.concatenate([pair[1] for pair in found])
    found.clear()
    while True:
        one, other = groups[first], groups[second]
        apart = one != other
        if not apart.any():
            return
        first, second, one, other = first[apart], second[apart], one[apart], other[apart]
        np.minimum.at(groups, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(further := groups[groups], groups):
            groups[:] = further
