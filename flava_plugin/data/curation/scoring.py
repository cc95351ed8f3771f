"""A score of our own: what a trained model says of each pair, worked out part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.part_files import PartFiles
from flava_plugin.data.curation.parts import Parts
from flava_plugin.data.reading import attempt
from flava_plugin.types import Sample

Judge = Callable[[Sequence[Sample]], NDArray[np.float32]]
"""Pairs -> a score for each."""

ROWS = 256
"""Pairs that are held decoded at a time."""


class RunScores:
    """The work of scoring every pair of a source.

    Args:
        parts: The source.
        folder: Of all tables.
        model: What names the model and its weights.
        judge: The model; None where all is expected to be there.
    """

    def __init__(self, parts: Parts, folder: Path, model: str, judge: Judge | None) -> None:
        self.parts = parts
        self.files = PartFiles(folder, f"run-{model}", model)
        self.judge = judge

    def todo(self) -> list[int]:
        """List the parts without scores.

        Returns:
            Their numbers.
        """
        return [p for p in range(len(self.parts)) if not self.files.has(p, self.parts.content(p))]

    def do(self, part: int, /) -> None:
        """Score a part; a pair that cannot be read has no score.

        Args:
            part: Its number.
        """
        assert self.judge is not None, "there is a model where there is work to do"
        indices = self.parts.indices(part)
        scores = np.full(len(indices), np.nan, np.float32)
        for rows, samples in self._groups(indices):
            scores[rows] = self.judge(samples)
        self.files.write(part, self.parts.content(part), {"score": scores})

    def all(self) -> NDArray[np.float32]:
        """Read the scores of all parts.

        Returns:
            (samples,), NaN where there is none.
        """
        return np.concatenate([self.files.column(p, "score") for p in range(len(self.parts))])

    def _groups(self, indices: range) -> Iterator[tuple[list[int], list[Sample]]]:
        rows: list[int] = []
        samples: list[Sample] = []
        for row, index in enumerate(indices):
            sample, fault = attempt(self.parts.dataset, "curate", index, "pair")
            if fault is None:
                rows.append(row)
                samples.append(sample)
            if len(rows) == ROWS:
                yield rows, samples
                rows, samples = [], []
        if rows:
            yield rows, samples
