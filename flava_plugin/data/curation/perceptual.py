"""64 bits that stay nearly the same when a picture is resized, encoded anew or made lighter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Pixels of a side that a hash is made of."""

_LOW = 8
_NOISE = 1.0  # grey levels summed by the transform: rounding, or an encoder's, decides no bit


def _cosines() -> NDArray[np.float32]:
    """(8, 32) the lowest waves of the orthonormal cosine transform (DCT-II)."""
    waves, places = np.arange(_LOW)[:, None], np.arange(SIDE)[None] + 0.5
    basis = np.cos(np.pi / SIDE * waves * places) * np.sqrt(2 / SIDE)
    basis[0] /= np.sqrt(2)
    small: NDArray[np.float32] = basis.astype(np.float32)
    return small


_BASIS = _cosines()


def perceptual_hash(picture: Image.Image) -> int:
    """Hash how light and dark are spread over a picture.

    The known ``pHash``: of the picture in grey at 32 x 32, the 8 x 8 lowest waves of the cosine
    transform, each against their median. The mean brightness counts for nothing. A picture of one
    colour has the hash 0.

    Args:
        picture: Any picture, decoded.

    Returns:
        64 bits; few of them differ between near-duplicates, about half between other pictures.
    """
    small = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    grey = np.asarray(small, np.float32)
    waves = (_BASIS @ grey @ _BASIS.T).ravel()
    bits = waves > np.median(waves[1:]) + _NOISE
    bits[0] = False
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def differing_bits(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count the bits in which hashes differ.

    Args:
        first: uint64 of any shape.
        second: Of the same shape.

    Returns:
        uint8 of that shape, 0 to 64.
    """
    words = first ^ second
    if hasattr(np, "bitwise_count"):  # numpy 2
        counted: NDArray[np.uint8] = np.bitwise_count(words)
        return counted
    words -= (words >> np.uint64(1)) & np.uint64(0x5555555555555555)
    words = (words & np.uint64(0x3333333333333333)) + (
        (words >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    words = (words * np.uint64(0x0101010101010101)) >> np.uint64(56)
    summed: NDArray[np.uint8] = words.astype(np.uint8)
    return summed
