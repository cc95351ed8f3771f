"""What a pretrained image encoder knows of scikit-learn's digits, a real image set it never saw.

    python -m tests.benchmarks.bench.digits --run runs/demo --seeds 5

A linear probe (``linear_probe``: L-BFGS, lambda chosen on held-out rows) of three kinds of features
of the same 1,797 pictures of 8 by 8 pixels, enlarged to 48: the run's [CLS], that of the same model
with its weights drawn anew, and the pixels themselves. A seed draws which 1,000 pictures are fitted
to, which of them lambda is chosen on, and the random weights.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.evaluate.features_cache import compute
from flava_plugin.evaluate.flava import Flava
from flava_plugin.evaluate.inference import load
from flava_plugin.evaluate.linear_probe import probe
from flava_plugin.model.learner import build_learner
from flava_plugin.types import Sample

SIDE = 48
"""Pixels of a side, the demo's."""

FITTED = 1000
"""Pictures that are fitted to; the other 797 are measured on."""


class Digits:
    """Scikit-learn's digits as pictures, read as any dataset's are."""

    class_names = tuple("0123456789")

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        self.pixels = found.data.astype(np.float32) / 16
        self.classes = found.target.astype(np.int64)

    def __len__(self) -> int:
        return len(self.classes)

    def read(self, index: int, /) -> Sample:
        """One picture, grey as RGB."""
        grey = (self.pixels[index].reshape(8, 8) * 255).astype(np.uint8)
        picture = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return Sample(picture.convert("RGB"), extra={"label": int(self.classes[index])})


def drawn_anew(flava: Flava, seed: int) -> Flava:
    """The same model with the weights that its recipe starts from at a seed.

    Args:
        flava: The trained model.
        seed: Of the weights.

    Returns:
        The untrained one.
    """
    recipe = flava.recipe
    learner = build_learner(
        recipe.model, recipe.objectives, words=flava.tokenizer.vocab_size,
        image_size=recipe.data.image.size, seed=seed,
    )  # fmt: skip
    return Flava(learner.eval(), flava.tokenizer, recipe, "cpu")


def accuracy(features: NDArray[np.float32], classes: NDArray[np.int64], seed: int) -> float:
    """Accuracy of a probe on the pictures that the seed leaves over.

    Args:
        features: (N, D).
        classes: (N,) classes.
        seed: Of the division, and of what lambda is chosen on.

    Returns:
        The share of right answers.
    """
    order = np.random.default_rng(seed).permutation(len(classes))
    parts = order[:FITTED], order[FITTED:]
    train, test = ((features[rows], classes[rows]) for rows in parts)
    return float(probe(train, test, seed=seed)["accuracy"])


def measure(run: Path, seeds: int) -> dict[str, list[float]]:
    """Measure every kind of features.

    Args:
        run: Folder of a run.
        seeds: How many divisions.

    Returns:
        Accuracies by kind, one a seed.
    """
    digits, flava = Digits(), load(run, device="cpu")
    trained = compute(flava, digits, "label", "image")[0].numpy()
    found: dict[str, list[float]] = {"pixels": [], "random weights": [], "trained": []}
    for seed in range(seeds):
        random = compute(drawn_anew(flava, seed), digits, "label", "image")[0].numpy()
        kinds = {"pixels": digits.pixels, "random weights": random, "trained": trained}
        for kind, features in kinds.items():
            found[kind].append(accuracy(features, digits.classes, seed))
    return found


def main() -> None:
    """Print a line for each kind of features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    for kind, values in measure(chosen.run, chosen.seeds).items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"{kind:<15} {statistics.mean(values):.4f} +- {spread:.4f}  ({each})", flush=True)


if __name__ == "__main__":
    main()
