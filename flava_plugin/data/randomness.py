"""Random numbers as a function of what they are for: never of a worker, a rank or a process."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.types import Key

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key_of(*parts: int | str) -> Words:
    """Hash a purpose and numbers to 128 bits, the same in every process and on every machine.

    Args:
        *parts: What the random numbers are for.

    Returns:
        (2,) uint64.
    """
    name = "\x1f".join(map(str, parts)).encode()
    return np.frombuffer(blake2b(name, digest_size=16).digest(), dtype="<u8").astype(np.uint64)


def generator(seed: int, purpose: str, key: Key | tuple[int | str, ...]) -> np.random.Generator:
    """Make the generator of one choice about one sample.

    Philox takes its key as it is, which makes it the cheapest generator of numpy's to start.

    Args:
        seed: Seed of the run.
        purpose: A word that keeps different choices about the same sample apart.
        key: The sample.

    Returns:
        A generator of its own.
    """
    return np.random.Generator(np.random.Philox(key=key_of(seed, purpose, *key)))


def mix(values: Words) -> Words:
    """Scramble 64-bit words (the finaliser of splitmix64, Steele et al. 2014).

    Args:
        values: uint64 of any shape.

    Returns:
        uint64 of that shape; different inputs give different outputs.
    """
    words: Words = values + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def uniform(key: np.uint64, counters: NDArray[Any]) -> NDArray[np.float64]:
    """Draw one number per counter, each computable without the others.

    Args:
        key: What the numbers are for (a word of ``key_of``).
        counters: Integers of any shape.

    Returns:
        float64 in [0, 1) of that shape.
    """
    words = mix(mix(counters.astype(np.uint64)) ^ key)
    numbers: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64)
    numbers *= 2.0**-53
    return numbers
