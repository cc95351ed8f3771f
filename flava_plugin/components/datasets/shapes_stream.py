"""Which scenes a shapes dataset draws, and the randomness of each sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flava_plugin.components.datasets.shapes_scene import (
    UNSEEN,
    Combination,
    Scene,
    combinations,
    draw_scene,
    generator,
)


@dataclass(frozen=True)
class Stream:
    """Which scenes a dataset draws.

    Attributes:
        name: A key of ``shapes_scene.STREAMS``.
        split: A key of ``shapes_scene.SPLITS``.
        size: Number of samples.
        seed: Of all randomness.
        variant: A key of ``shapes_scene.LOOKS``.
        pool: Combinations of colour and shape.
        first: Combinations that one thing of each scene is of; empty for no such rule.
        objects: Number of things, or None for one to three.
    """

    name: str
    split: str
    size: int
    seed: int
    variant: str
    pool: tuple[Combination, ...]
    first: tuple[Combination, ...] = ()
    objects: int | None = None

    def generator(self, index: int) -> np.random.Generator:
        """Make the generator of a sample.

        Args:
            index: Of the sample.

        Returns:
            A fresh generator.

        Raises:
            IndexError: There is no such sample.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"shapes_{self.name}: no sample {index} among {self.size}")
        return generator(self.name, self.split, self.seed, index)

    def draw(self, rng: np.random.Generator) -> Scene:
        """Draw a scene.

        Args:
            rng: Source of randomness.

        Returns:
            The scene.
        """
        return draw_scene(
            rng, self.pool, variant=self.variant, count=self.objects, first=self.first
        )


def open_stream(
    name: str,
    split: str,
    size: int,
    seed: int,
    variant: str,
    *,
    unseen: str | None = None,
    objects: int | None = None,
) -> Stream:
    """Settle what a dataset draws.

    Args:
        name: A key of ``shapes_scene.STREAMS``.
        split: A key of ``shapes_scene.SPLITS``.
        size: Number of samples.
        seed: Of all randomness.
        variant: A key of ``shapes_scene.LOOKS``.
        unseen: Whether scenes hold unseen combinations; None: ``some`` where the split has any.
        objects: Number of things, or None for one to three.

    Returns:
        The stream.
    """
    unseen = unseen or ("some" if UNSEEN[split] else "none")
    pool = combinations(split, unseen)
    first = UNSEEN[split] if unseen == "some" else ()
    return Stream(name, split, size, seed, variant, pool, first, objects)
