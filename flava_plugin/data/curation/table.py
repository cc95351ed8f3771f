"""All samples of a source as columns, read from the parts' files as they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.part_files import PartFiles
from flava_plugin.data.curation.parts import Parts
from flava_plugin.data.curation.scan import reasons_of
from flava_plugin.data.randomness import mix


class Table:
    """The samples of a source, in order.

    Args:
        parts: The source.
        scanned: Its tables of facts.
        scores: (samples,) float32 by name, NaN where there is none.
    """

    def __init__(
        self, parts: Parts, scanned: PartFiles, scores: Mapping[str, NDArray[np.float32]]
    ) -> None:
        self.parts = parts
        self.scanned = scanned
        self.scores = scores

    def __len__(self) -> int:
        """Number of samples."""
        return self.parts.samples

    def column(self, name: str) -> NDArray[Any]:
        """Read a column whole.

        Args:
            name: One of ``FACTS``.

        Returns:
            (samples,).
        """
        return np.concatenate([self.scanned.column(p, name) for p in range(len(self.parts))])

    def by_part(self, kept: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Go through the parts.

        Args:
            kept: (samples,) which are left.

        Yields:
            A part's number and its share of ``kept``.
        """
        for part in range(len(self.parts)):
            indices = self.parts.indices(part)
            yield part, kept[indices.start : indices.stop]

    def identities(self, part: int) -> NDArray[np.uint64]:
        """Name samples by what they are and not by where they stand.

        Args:
            part: The part's number.

        Returns:
            uint64 for each sample, of its key, text and picture.
        """
        hashed = np.zeros(int(self.parts.manifest.samples[part]), np.uint64)
        for name in ("key", "text", "picture"):
            hashed = mix(hashed ^ self.scanned.column(part, name))
        return hashed

    def readable(self) -> tuple[NDArray[np.bool_], dict[str, int], dict[str, str]]:
        """Tell what could be read.

        Returns:
            (samples,) whether each could, how many could not by reason, and the first of each.
        """
        counts: Counter[str] = Counter()
        examples: dict[str, str] = {}
        sound = []
        for part in range(len(self.parts)):
            faults = self.scanned.column(part, "fault")
            sound.append(faults == 0)
            for place, (reason, example) in enumerate(reasons_of(self.scanned.notes(part))):
                counts[reason] += int((faults == place + 1).sum())
                examples.setdefault(reason, example)
        return np.concatenate(sound), dict(sorted(counts.items())), dict(sorted(examples.items()))
