"""A shuffle that needs no memory: any place of it is computed on its own."""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.randomness import Words, mix

_ROUNDS = 8
_SMALL = 1024
_ROUNDS_IF_SMALL = 24
"""A round moves little on a short range: all orders of six are equally likely only from here on."""


def permute(
    positions: NDArray[Any], length: int | NDArray[np.int64], key: np.uint64 | Words
) -> NDArray[np.int64]:
    """Look up places of a pseudo-random permutation of ``range(length)``.

    A Feistel network on pairs of numbers (Black and Rogaway 2002, generalised Feistel), which is a
    permutation of a range slightly longer than wanted; what falls outside is sent through again
    until it falls inside (cycle walking), which keeps it a permutation.

    Args:
        positions: Integers of ``range(length)``, of any shape.
        length: How many things are permuted, less than 2^62; or an array that broadcasts with
            ``positions``, a permutation each.
        key: Which permutation: one word, or an array that broadcasts with ``positions``.

    Returns:
        int64 of the shape of ``positions`` broadcast with ``length`` and ``key``.

    Raises:
        ValueError: ``length`` is no length, or a position lies outside.
    """
    lengths = np.asarray(length, dtype=np.int64)
    if lengths.size and not (lengths.min() > 0 and lengths.max() < 2**62):
        raise ValueError(f"a permutation has from 1 to 2^62 - 1 places, not {length}")
    shape = np.broadcast_shapes(np.shape(positions), lengths.shape, np.shape(key))
    if not np.prod(shape):
        return np.zeros(shape, dtype=np.int64)
    if np.min(positions) < 0 or np.any(positions >= lengths):
        raise ValueError(f"positions must lie in range({length})")
    flat = np.broadcast_to(positions, shape).astype(np.uint64).ravel()
    keys = np.broadcast_to(np.asarray(key, dtype=np.uint64), shape).ravel()
    each = np.broadcast_to(lengths, shape).ravel()
    found = np.empty(len(flat), dtype=np.uint64)
    # the number of rounds goes by a place's own length, never by what else is asked for with it
    small = each < _SMALL
    for rounds, chosen in ((_ROUNDS_IF_SMALL, small), (_ROUNDS, ~small)):
        if chosen.all():
            return _walk(flat, each, keys, rounds).astype(np.int64).reshape(shape)
        if chosen.any():
            found[chosen] = _walk(flat[chosen], each[chosen], keys[chosen], rounds)
    return found.astype(np.int64).reshape(shape)


def _walk(values: Words, lengths: NDArray[np.int64], keys: Words, rounds: int) -> Words:
    """Shuffle until every value lies in its range."""
    if (lengths == lengths[0]).all():
        rows: Any = np.uint64(isqrt(int(lengths[0]) - 1) + 1)
        columns: Any = np.uint64(-(-int(lengths[0]) // int(rows)))
        found = _shuffle(values, rows, columns, keys, rounds)
        bound: Any = lengths[0].astype(np.uint64)
        while (outside := np.flatnonzero(found >= bound)).size:
            found[outside] = _shuffle(found[outside], rows, columns, keys[outside], rounds)
        return found
    bounds = lengths.astype(np.uint64)
    rows = _root(lengths - 1) + np.uint64(1)
    columns = (bounds + rows - np.uint64(1)) // rows
    found = _shuffle(values, rows, columns, keys, rounds)
    while (outside := np.flatnonzero(found >= bounds)).size:
        found[outside] = _shuffle(
            found[outside], rows[outside], columns[outside], keys[outside], rounds
        )
    return found


def _root(values: NDArray[np.int64]) -> Words:
    """Whole square roots, rounded down, exact where floating point is not."""
    roots = np.sqrt(values.astype(np.float64)).astype(np.int64)
    roots -= roots * roots > values
    roots += (roots + 1) * (roots + 1) <= values
    return roots.astype(np.uint64)


def _shuffle(values: Words, rows: Any, columns: Any, keys: Words, rounds: int) -> Words:
    row, column = np.divmod(values, columns)
    for number in range(0, rounds, 2):
        row = (row + mix(column ^ mix(keys + np.uint64(number))) % rows) % rows
        column = (column + mix(row ^ mix(keys + np.uint64(number + 1))) % columns) % columns
    row *= columns
    row += column
    found: Words = row
    return found
