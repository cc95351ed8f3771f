import pytest
import torch
from evaluate_doubles import Knowing, Listed, numbered
from torch import Tensor
from torch.nn.functional import normalize

from flava_plugin.evaluate.zero_shot import ZeroShot, prompt_ensemble
from flava_plugin.types import Sample

NAMES = [f"number {n}" for n in range(12)]


def task(labels: list[int | str], pictures: list[int]) -> ZeroShot:
    rows = [
        Sample(numbered(picture), extra={"class": label})
        for label, picture in zip(labels, pictures, strict=True)
    ]
    return ZeroShot(
        Listed(rows), NAMES, ["{}", "the {}"], count=None, report_as="accuracy", label="class"
    )


def test_accuracy_is_the_share_of_pictures_nearest_to_their_class() -> None:
    labels: list[int | str] = list(range(12)) * 2
    figures = task(labels, list(range(12)) * 2)(Knowing(wrong=[1, 2, 3]))  # type: ignore[arg-type]
    assert figures["accuracy"] == 18 / 24
    assert figures["chance"] == pytest.approx(1 / 12)
    assert (figures["classes"], figures["images"]) == (12, 24)
    assert task(labels, list(range(12)) * 2)(Knowing())["accuracy"] == 1  # type: ignore[arg-type]


def test_labels_may_be_names() -> None:
    figures = task(["number 3", "number 4"], [3, 5])(Knowing())  # type: ignore[arg-type]
    assert figures["accuracy"] == 0.5


def test_a_class_is_the_normalised_mean_of_its_normalised_prompts() -> None:
    class Prompts(Knowing):
        def encode_text(self, texts: list[str]) -> Tensor:  # type: ignore[override]
            self.texts = texts
            return self.vectors[: len(texts)]

    flava = Prompts()
    found = prompt_ensemble(flava, ["cat", "dog"], ["a {}", "the {}", "{}"])  # type: ignore[arg-type]
    assert flava.texts == ["a cat", "the cat", "cat", "a dog", "the dog", "dog"]
    expected = torch.stack([flava.vectors[:3].mean(0), flava.vectors[3:6].mean(0)])
    assert torch.allclose(found, normalize(expected, dim=-1))
