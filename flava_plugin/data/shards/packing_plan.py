"""What the bytes of a pack depend on, and nothing else: which samples go where, and how."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.permutation import permute
from flava_plugin.data.randomness import key_of
from flava_plugin.schema import Count, Int, Positive, Section
from flava_plugin.types import Modality


class PackPlan(Section):
    """How a dataset becomes shards; every part of it can be made without the others.

    Attributes:
        dataset: Name of the registered dataset.
        options: Its options, as the command line gave them.
        fingerprint: Of the dataset, which changes with its content.
        samples: How many it has.
        kind: What each must hold.
        per_shard: Samples of a part; a part is one tar, or several where it grows too large.
        shard_bytes: A tar that has grown beyond so many bytes is closed.
        shuffle: Seed of the order; None keeps the dataset's.
        decode: Whether every picture is decoded, so that broken ones are left out.
        shorter_side: Pixels that larger pictures are brought down to; None keeps them.
        encode: Format of pictures that are not kept as they are.
        quality: Of pictures encoded as JPEG.
    """

    dataset: str
    options: dict[str, Any]
    fingerprint: str
    samples: Positive
    kind: Modality
    per_shard: Positive = 10_000
    shard_bytes: Positive = 512 << 20
    shuffle: Int | None = 0
    decode: bool = True
    shorter_side: Positive | None = None
    encode: Literal["png", "jpg", "webp"] = "png"
    quality: Count = 92

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.samples // self.per_shard)

    def indices(self, part: int) -> NDArray[np.int64]:
        """List the samples of a part.

        Args:
            part: Its number.

        Returns:
            Their indices in the dataset, in the part's order.
        """
        end = min((part + 1) * self.per_shard, self.samples)
        places = np.arange(part * self.per_shard, end, dtype=np.int64)
        if self.shuffle is None:
            return places
        return permute(places, self.samples, key_of(self.shuffle, "pack")[0])

    def differences(self, other: PackPlan) -> list[str]:
        """Compare with another plan.

        Args:
            other: It.

        Returns:
            A phrase for each attribute that differs, the other's value first.
        """
        mine, its = self.model_dump(mode="json"), other.model_dump(mode="json")
        return [
            f"{key}: {its[key]!r} there, {mine[key]!r} now" for key in mine if mine[key] != its[key]
        ]


def tar_name(part: int, number: int) -> str:
    """Name a tar so that sorted names are in the order of parts.

    Args:
        part: Number of the part.
        number: Of the tar in its part, from 0.

    Returns:
        Such as ``000012.tar``, and ``000012_001.tar`` for the second of a part; numbers beyond
        these digits start with ``x``, which sorts behind them.
    """
    which = f"{part:06d}" if part < 10**6 else f"x{part:012d}"
    if number:
        which += f"_{number:03d}" if number < 10**3 else f"_x{number:09d}"
    return f"{which}.tar"
