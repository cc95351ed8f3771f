"""Which entries each caption of a source matches: worked out once for a list, in parallel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np

from flava_plugin.data.curation.part_files import PartFiles
from flava_plugin.data.curation.parts import Parts
from flava_plugin.data.curation.phrases import Phrases


@dataclass(frozen=True)
class Matching:
    """The work of looking for a list of entries in all captions.

    Attributes:
        parts: The source.
        scanned: Its tables of facts, which hold the captions.
        folder: Of all tables.
        phrases: The entries.
    """

    parts: Parts
    scanned: PartFiles
    folder: Path
    phrases: Phrases

    @cached_property
    def files(self) -> PartFiles:
        """Where the matches are: for each sample the end of its ``entries``, ascending numbers."""
        content = blake2b(f"{self.phrases.ignore_case}\n".encode(), digest_size=8)
        content.update("\n".join(self.phrases.entries).encode())
        name = content.hexdigest()
        return PartFiles(self.folder, f"matches-{name}", f"{name} {self.scanned.settings}")

    def todo(self) -> list[int]:
        """List the parts that have not been looked through.

        Returns:
            Their numbers.
        """
        files = self.files
        return [p for p in range(len(self.parts)) if not files.has(p, self.parts.content(p))]

    def do(self, part: int, /) -> None:
        """Look through a part.

        Args:
            part: Its number.
        """
        ends = self.scanned.column(part, "text_ends").tolist()
        texts = self.scanned.column(part, "texts").tobytes()
        entries: list[int] = []
        counts = []
        start = 0
        for end in ends:
            found = self.phrases.found_in(texts[start:end].decode("utf-8", "replace"))
            entries += found
            counts.append(len(found))
            start = end
        columns = {
            "ends": np.cumsum(counts, dtype=np.uint32),
            "entries": np.array(entries, np.uint32),
        }
        self.files.write(part, self.parts.content(part), columns)
