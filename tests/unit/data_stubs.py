"""Small stand-ins for the tests of the data layer: a tokenizer and datasets in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from flava_plugin.data.mixture_run import Mixture, fixed_mixture
from flava_plugin.sections_data import DataSection, ImageSection, MaskingSection
from flava_plugin.types import Sample


class LetterTokenizer:
    """One token per letter; the words are what spaces separate."""

    pad_id, mask_id, cls_id, sep_id = 0, 4, 2, 3
    special_ids = frozenset(range(5))
    vocab_size = 5 + 27

    def encode(self, text: str, max_length: int) -> list[int]:
        letters = [5 + max(0, "abcdefghijklmnopqrstuvwxyz".find(c)) for c in text if c != " "]
        return [self.cls_id, *letters[: max_length - 2], self.sep_id]

    def words(self, ids: Sequence[int]) -> list[int]:
        return list(range(len(ids)))


class Pairs:
    """Pictures of one colour, named; some indices cannot be read."""

    def __init__(self, length: int, bad: Sequence[int] = (), repeat: int = 10**9) -> None:
        self.length = length
        self.bad = set(bad)
        self.repeat = repeat
        self.pictures = [
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8))
            for i in range(length)
        ]

    def __len__(self) -> int:
        return self.length

    def read(self, index: int, /) -> Sample:
        if index in self.bad:
            raise OSError(f"no file {index}")
        text = f"scene {chr(97 + index % self.repeat)} {'x' * (index % 3)}"
        return Sample(
            self.pictures[index], text, negative_text=f"not {text}", extra={"index": index}
        )


class Sentences:
    """Text alone."""

    def __len__(self) -> int:
        return 7

    def read(self, index: int, /) -> Sample:
        return Sample(text="word " * (index + 1))


class Pictures:
    """Images alone."""

    def __len__(self) -> int:
        return 5

    def read(self, index: int, /) -> Sample:
        return Sample(Image.new("RGB", (10, 9), (index, 2 * index, 9)))


def section(**changes: Any) -> DataSection:
    """A data section of three tiny sources; ``changes`` replace its values."""
    blank = {"type": "in_memory"}
    values: dict[str, Any] = {
        "global_batch": 8,
        "workers": 0,
        "tokenizer": blank,
        "image": ImageSection(size=8, codebook_size=4, crop=(0.5, 1.0)),
        "masking": MaskingSection(patch_count=5, min_block=2),
        "matching": {"negatives": 0.5, "hard": 0.5},
        "sources": {
            "pairs": {"modality": "pair", "share": 0.5, "dataset": blank},
            "sentences": {"modality": "text", "share": 0.25, "dataset": blank},
            "pictures": {"modality": "image", "share": 0.25, "dataset": blank},
        },
    }
    return DataSection(**{**values, **changes})


def mixture_of(section: DataSection, seed: int) -> Mixture:
    """The mixture of a section's own shares."""
    return fixed_mixture({name: s.share or 0.0 for name, s in section.sources.items()}, seed)
