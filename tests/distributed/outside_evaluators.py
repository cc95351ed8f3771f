"""What an outside package registers, in which nothing knows of ranks: a recipe's plugin."""

from __future__ import annotations

import os
from typing import Any

import torch

from flava_plugin import registry
from flava_plugin.evaluate.samples import keyed, open_dataset
from flava_plugin.schema import Component, DatasetSpec
from flava_plugin.types import Sample


class Halves:
    """150 pairs of the shapes, with labels that nothing can be told from."""

    def __init__(self) -> None:
        self.pairs = open_dataset(Component(type="shapes_pairs", size=150), "dev")

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int, /) -> Sample:
        sample = self.pairs.read(index)
        return Sample(sample.image, sample.text, extra={"half": index % 2, "third": index % 3})


@registry.datasets.register("halves")
def halves() -> Halves:
    """Open the pairs."""
    return Halves()


@registry.evaluators.register("outsider")
def outsider(*, dataset: DatasetSpec, split: str = "dev") -> Any:
    """Measure with every method of the model, in groups and calls of its own sizes."""
    pairs = open_dataset(dataset, split)

    def measure(flava: Any) -> dict[str, float | int]:
        rows = list(keyed(pairs))
        samples = [sample for _, sample in rows]
        pictures, texts = [s.image for s in samples], [s.text for s in samples]
        cosines = flava.encode_image(pictures) @ flava.encode_text(texts[:9]).T
        fused = flava.encode_pair(pictures, texts)
        batch = flava.batch(samples[:5], "pair", keys=[key for key, _ in rows[:5]])
        found = flava.predict("itm", batch)
        states = flava.features(batch, "fused.cls")[:, 0]
        chances = flava.classify(pictures[:3], ["a", "b"])
        parts = (cosines, fused, found, states, chances, flava.score(pictures[:2], texts[:2]))
        return {f"mean_{place}": float(part.double().mean()) for place, part in enumerate(parts)}

    return measure


@registry.evaluators.register("fails_on_one")
def fails_on_one(*, dataset: DatasetSpec, split: str = "dev") -> Any:
    """Fail on rank 1 alone, outside of what ranks share."""
    pairs = open_dataset(dataset, split)

    def measure(flava: Any) -> dict[str, float | int]:
        if os.environ.get("RANK") == "1":
            raise ArithmeticError("rank 1 cannot add")
        texts = [sample.text for _, sample in keyed(pairs)]
        return {"mean": float(torch.as_tensor(flava.encode_text(texts)).mean())}

    return measure
