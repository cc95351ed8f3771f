"""Scikit-learn's digits, a real image set, by linear probe: trained encoder, random one, pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import start, write_recipe

from flava_plugin.evaluate.features_cache import cached_features
from flava_plugin.evaluate.inference import load
from flava_plugin.evaluate.linear_probe import LinearProbe, probe
from flava_plugin.schema import Component
from flava_plugin.types import Sample

datasets = pytest.importorskip("sklearn.datasets", reason="pip install '.[dev]'")
pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")


class Digits:
    """Pictures of 8 by 8 pixels, read as any dataset's are.

    Args:
        rows: Which of the 1797.
    """

    class_names = tuple("0123456789")

    def __init__(self, rows: range) -> None:
        found = datasets.load_digits()
        self.pixels, self.labels = found.data[rows], found.target[rows]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, /) -> Sample:
        grey = (self.pixels[index].reshape(8, 8) * 15.9375).astype(np.uint8)
        picture = Image.fromarray(grey).convert("RGB").resize((48, 48))
        return Sample(picture, extra={"label": int(self.labels[index])})


def test_digits_by_a_tiny_run_beside_pixels_and_random_weights(
    tmp_path: Path, record_property: object
) -> None:
    recipe = write_recipe(tmp_path)
    done = start(recipe)
    assert done.wait() == 0, done.stderr and done.stderr.read()
    sources = [(Digits(rows), Component(type="digits", split=str(rows)))
               for rows in (range(1000), range(1000, 1797))]  # fmt: skip
    trained = load(tmp_path / "run")
    random = load(tmp_path / "run")
    dice = torch.Generator().manual_seed(0)
    for value in random.learner.backbone.parameters():
        if value.dim() > 1:  # norms and biases stay
            value.data.normal_(0, 0.08, generator=dice)
    task = LinearProbe(*sources, cache=tmp_path / "features")
    pixels = [(s.pixels.astype(np.float32), s.labels.astype(np.int64)) for s, _ in sources]
    found = {
        "pixels": probe(*pixels)["accuracy"],
        "trained": task(trained)["accuracy"],
        "random": task(random)["accuracy"],
    }
    kept = [cached_features(flava, *sources[1], "label", reads="image", cache=tmp_path / "features")
            for flava in (trained, random)]  # fmt: skip
    assert not torch.allclose(kept[0][0], kept[1][0], atol=0.01)
    print("digits, linear probe, accuracy:", found)
    assert task(trained)["accuracy"] == found["trained"]  # from the kept features
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 4
    # 12 steps teach nothing about digits: what is held is that a probe reads them at all
    assert found["pixels"] > 0.9
    assert found["trained"] > 0.2 and found["random"] > 0.1
