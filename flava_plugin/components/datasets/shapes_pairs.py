"""Pictures with captions, and galleries in which each caption has one right picture."""

from __future__ import annotations

import numpy as np

from flava_plugin.components.datasets.shapes_captions import describe, falsify
from flava_plugin.components.datasets.shapes_render import render
from flava_plugin.components.datasets.shapes_scene import Facts, Scene, facts, generator
from flava_plugin.components.datasets.shapes_statements import Statement, draw_wording, word
from flava_plugin.components.datasets.shapes_stream import Stream
from flava_plugin.types import Sample


class Pairs:
    """Pictures with captions.

    Args:
        stream: Which scenes.
        full: Captions name colour, shape and place of every thing.
        distinct: No two captions are equal; with ``full``, none is true of another picture either.
    """

    def __init__(self, stream: Stream, *, full: bool, distinct: bool) -> None:
        self.stream = stream
        self.full = full
        self.distinct = distinct
        self._rows: list[int] = []
        self._captions: set[str] = set()
        self._told: set[Facts] = set()
        self._implied: set[Facts] = set()

    def __len__(self) -> int:
        return self.stream.size

    def read(self, index: int, /) -> Sample:
        """Make a pair.

        Args:
            index: Of the pair. With ``distinct`` the first access makes all pairs before it.

        Returns:
            A picture, a true caption and a close one that is false.
        """
        rng = self.stream.generator(index)
        if self.distinct:
            rng = self._row_generator(self._row(index))
        scene, statement = self._claim(rng)
        wording = draw_wording(rng)
        false = falsify(statement, scene, rng, self.stream.pool, kept=self.stream.first)
        return Sample(render(scene), word(statement, wording), word(false, wording))

    def _claim(self, rng: np.random.Generator) -> tuple[Scene, Statement]:
        scene = self.stream.draw(rng)
        return scene, describe(scene, rng, variant=self.stream.variant, full=self.full)

    def _row_generator(self, row: int) -> np.random.Generator:
        stream = self.stream
        return generator(stream.name, stream.split, stream.seed, row)

    def _row(self, index: int) -> int:
        """Number of the draw that is the index-th one kept."""
        row = self._rows[-1] + 1 if self._rows else 0
        while len(self._rows) <= index:
            if row > 50 * (self.stream.size + 100):
                raise ValueError(
                    f"shapes_pairs: found {len(self._rows)} distinct pairs of {self.stream.size} "
                    f"among {row} draws; ask for a smaller size"
                )
            rng = self._row_generator(row)
            scene, statement = self._claim(rng)
            if self._keeps(scene, word(statement, draw_wording(rng))):
                self._rows.append(row)
            row += 1
        return self._rows[index]

    def _keeps(self, scene: Scene, caption: str) -> bool:
        if caption in self._captions:
            return False
        if self.full:
            told, parts = facts(scene), subsets(facts(scene))
            if told in self._implied or not self._told.isdisjoint(parts):
                return False
            self._told.add(told)
            self._implied.update(parts)
        self._captions.add(caption)
        return True


def subsets(told: Facts) -> list[Facts]:
    """List the non-empty subsets of a scene's facts: each is what a true caption tells.

    Args:
        told: Facts.

    Returns:
        2^n - 1 sets, the whole one among them.
    """
    items = sorted(told)
    return [
        frozenset(item for place, item in enumerate(items) if bits >> place & 1)
        for bits in range(1, 1 << len(items))
    ]
