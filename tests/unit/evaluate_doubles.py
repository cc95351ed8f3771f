"""Doubles for the evaluators' tests: a dataset in a list, and models that know the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor

from flava_plugin.evaluate.sharing import ALONE
from flava_plugin.types import Batch, Key, MaskedPrediction, Modality, Sample


class Listed:
    """A dataset of samples in a list.

    Args:
        samples: The samples.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int, /) -> Sample:
        return self.samples[index]


def numbered(number: int) -> Image.Image:
    """A picture that bears a number, read back by ``number_of``."""
    return Image.new("RGB", (2, 2), (number // 256, number % 256, 0))


def number_of(image: Image.Image) -> int:
    high, low, _ = image.getpixel((0, 0))  # type: ignore[misc]
    return int(high) * 256 + int(low)


class Knowing:
    """Stands in for ``Flava``: embeds number n and the text "n ..." to the same unit vector.

    Args:
        wrong: Numbers whose pictures it takes for another one.
        batch_size: Rows at a time.
    """

    def __init__(self, wrong: Sequence[int] = (), batch_size: int = 7) -> None:
        self.wrong = set(wrong)
        self.batch_size = batch_size
        self.objectives = ["itm", "mmm_text", "mmm_image"]
        self.vectors = torch.eye(1000)
        self.encoded_images = 0
        self.ranks = ALONE

    def encode_image(self, images: Sequence[Image.Image]) -> Tensor:
        self.encoded_images += len(images)
        numbers = [number_of(image) for image in images]
        return self.vectors[[n + 500 if n in self.wrong else n for n in numbers]]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self.vectors[[int(text.split()[-1]) for text in texts]]

    def batch(
        self,
        samples: Sequence[Sample],
        modality: Modality,
        *,
        keys: Sequence[Key] | None = None,
        matched: Tensor | None = None,
    ) -> Batch:
        self.asked = list(samples)
        return Batch("pair", image=torch.zeros(len(samples), 3, 1, 1), matched=matched)

    def predict(self, objective: str, batch: Batch) -> Tensor:
        """ITM logits by comparing the picture's number with the text's."""
        same = [
            number_of(sample.image) == int((sample.text or "").split()[-1])
            for sample in self.asked
            if sample.image is not None
        ]
        together = torch.tensor(same).float()
        return torch.stack([1 - together, together], dim=1)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        with torch.inference_mode():
            yield


class Filling(Knowing):
    """Fills masked positions with a fixed guess per position.

    Args:
        labels: What stands at the positions, batch by batch.
        guesses: What it guesses.
        classes: Size of the vocabulary.
    """

    def __init__(self, labels: Tensor, guesses: Tensor, classes: int) -> None:
        super().__init__(batch_size=1000)
        self.labels, self.guesses, self.classes = labels, guesses, classes

    def predict(self, objective: str, batch: Batch) -> MaskedPrediction:  # type: ignore[override]
        one_hot = torch.nn.functional.one_hot(self.guesses, self.classes).float()
        return MaskedPrediction(one_hot, self.labels, lambda hidden: hidden)
