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


def permute(positions: NDArray[Any], length: int, key: np.uint64 | Words) -> NDArray[np.int64]:
    """Look up places of a pseudo-random permutation of ``range(length)``.

    A Feistel network on pairs of numbers (Black and Rogaway 2002, generalised Feistel), which is a
    permutation of a range slightly longer than wanted; what falls outside is sent through again
    until it falls inside (cycle walking), which keeps it a permutation.

    Args:
        positions: Integers of ``range(length)``, of any shape.
        length: How many things are permuted, less than 2^62.
        key: Which permutation: one word, or an array that broadcasts with ``positions``.

    Returns:
        int64 of the shape of ``positions`` broadcast with ``key``.

    Raises:
        ValueError: ``length`` is no length, or a position lies outside.
    """
    if not 0 < length < 2**62:
        raise ValueError(f"a permutation has from 1 to 2^62 - 1 places, not {length}")
    shape = np.broadcast_shapes(np.shape(positions), np.shape(key))
    if not np.prod(shape):
        return np.zeros(shape, dtype=np.int64)
    if positions.min() < 0 or positions.max() >= length:
        raise ValueError(f"positions must lie in range({length})")
    flat = np.broadcast_to(positions, shape).astype(np.uint64).ravel()
    keys = np.broadcast_to(np.asarray(key, dtype=np.uint64), shape).ravel()
    rows = isqrt(length - 1) + 1
    columns = -(-length // rows)
    rounds = _ROUNDS_IF_SMALL if length < _SMALL else _ROUNDS
    found = _shuffle(flat, rows, columns, keys, rounds)
    while (outside := np.flatnonzero(found >= length)).size:
        found[outside] = _shuffle(found[outside], rows, columns, keys[outside], rounds)
    return found.astype(np.int64).reshape(shape)


def _shuffle(values: Words, rows: int, columns: int, keys: Words, rounds: int) -> Words:
    r, c = np.uint64(rows), np.uint64(columns)
    row, column = np.divmod(values, c)
    for number in range(0, rounds, 2):
        row = (row + mix(column ^ mix(keys + np.uint64(number))) % r) % r
        column = (column + mix(row ^ mix(keys + np.uint64(number + 1))) % c) % c
    row *= c
    row += column
    return row
