"""Linear probes: classes read off a frozen encoder's [CLS] by logistic regression."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flava_plugin.data.randomness import generator
from flava_plugin.evaluate.features_cache import Reads, cached_features
from flava_plugin.evaluate.logistic import Labels, Matrix, choose_and_fit
from flava_plugin.evaluate.metrics import measure
from flava_plugin.evaluate.samples import open_dataset
from flava_plugin.evaluate.sharing import first
from flava_plugin.schema import Component, DatasetSpec, Positive, Share

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava


def linear_probe(
    *,
    dataset: DatasetSpec,
    train: DatasetSpec | None = None,
    split: str = "test",
    train_split: str = "train",
    label: str = "label",
    metric: Literal["accuracy", "mean_per_class"] = "accuracy",
    reads: Reads = "image",
    held_out: Share = 0.2,
    seed: int = 0,
    iterations: Positive = 1000,
    cache: Path | None = None,
) -> LinearProbe:
    """Fit logistic regression to a frozen encoder and measure it (paper, section 4: 22 sets).

    Args:
        dataset: Labelled samples to measure on.
        train: Labelled samples to fit to; null takes ``dataset`` at ``train_split``.
        split: Split that is measured on.
        train_split: Split that is fitted to.
        label: Name of the class in ``Sample.extra``.
        metric: ``accuracy`` or ``mean_per_class``.
        reads: The encoder whose [CLS] is read: ``image``, ``text`` or ``fused``.
        held_out: Share of each class's training samples that lambda is chosen on, where the dataset
            has no published validation part (its ``validation``); they are fitted to afterwards.
        seed: Decides which they are.
        iterations: Most of L-BFGS.
        cache: Folder of kept features; null keeps none.

    Returns:
        The task.
    """
    fitted = at_split(train or dataset, train_split)
    measured = at_split(dataset, split)
    return LinearProbe(
        (open_dataset(train or dataset, train_split), fitted),
        (open_dataset(dataset, split), measured),
        label=label, metric=metric, reads=reads, held_out=held_out, seed=seed,
        iterations=iterations, cache=cache,
    )  # fmt: skip


def at_split(spec: Component, split: str) -> Component:
    """Say in a dataset's description at which split it is opened.

    Args:
        spec: The dataset.
        split: The split.

    Returns:
        The same with ``split``, for the name of its features.
    """
    return Component(type=spec.type, **(spec.options | {"split": split}))


class LinearProbe:
    """The task of a linear probe.

    Args:
        train: The dataset to fit to, opened, and as the recipe names it.
        test: The one to measure on.
        label: Name of the class.
        metric: Name of the metric.
        reads: The encoder.
        held_out: Share of the training samples that lambda is chosen on.
        seed: Decides which they are.
        iterations: Most of L-BFGS.
        cache: Folder of kept features, or None.
    """

    def __init__(
        self,
        train: tuple[Any, Component],
        test: tuple[Any, Component],
        *,
        label: str = "label",
        metric: str = "accuracy",
        reads: Reads = "image",
        held_out: float = 0.2,
        seed: int = 0,
        iterations: int = 1000,
        cache: Path | None = None,
    ) -> None:
        self.train = train
        self.test = test
        self.label = label
        self.metric = metric
        self.reads: Reads = reads
        self.held_out = held_out
        self.seed = seed
        self.iterations = iterations
        self.cache = cache

    @property
    def about(self) -> str:
        """What a reader of the figures has to know about the split, or an empty string."""
        return str(getattr(self.test[0], "about", ""))

    @property
    def datasets(self) -> tuple[Any, Any]:
        """What the figures are a function of besides the model: fitted to, measured on."""
        return self.train[0], self.test[0]

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Fit and measure.

        Args:
            flava: The model.

        Returns:
            The metric beside the level of the most frequent class; ``lambda`` as a power of ten;
            the sizes ``classes``, ``train`` and ``test``.
        """
        fitted, classes = self._features(flava, self.train)
        asked, truth = self._features(flava, self.test)
        fit = partial(
            probe, (fitted, classes), (asked, truth), metric=self.metric, held_out=self.held_out,
            validation=getattr(self.train[0], "validation", None), seed=self.seed,
            iterations=self.iterations, names=len(getattr(self.train[0], "class_names", ())),
        )  # fmt: skip
        return first(flava, fit)

    def _features(self, flava: Flava, source: tuple[Any, Component]) -> tuple[Matrix, Labels]:
        features, labels = cached_features(
            flava, *source, self.label, reads=self.reads, cache=self.cache
        )
        return features.numpy(), labels.numpy()


def probe(
    train: tuple[Matrix, Labels],
    test: tuple[Matrix, Labels],
    *,
    metric: str = "accuracy",
    held_out: float = 0.2,
    validation: NDArray[np.bool_] | None = None,
    seed: int = 0,
    iterations: int = 1000,
    names: int = 0,
) -> dict[str, float | int]:
    """Fit a probe to features of any kind and measure it.

    Args:
        train: (N, D) features and (N,) classes.
        test: The same of the samples to measure on.
        metric: ``accuracy`` or ``mean_per_class``.
        held_out: Share of each class's rows that lambda is chosen on.
        validation: (N,) the rows that it is chosen on instead; None takes that share.
        seed: Decides which they are.
        iterations: Most of L-BFGS.
        names: Number of classes by name, or 0.

    Returns:
        As ``LinearProbe`` says.

    Raises:
        ValueError: There is no row to choose lambda on, or there are fewer than two classes.
    """
    count = max(names, int(train[1].max()) + 1, int(test[1].max()) + 1)

    def score(logits: Matrix, labels: Labels) -> float:
        return measure(metric, "class", torch.from_numpy(logits), torch.from_numpy(labels))

    chosen = stratified(train[1], held_out, seed) if validation is None else validation
    if not chosen.any():
        raise ValueError(
            f"linear_probe: {len(chosen)} rows, each of another class, leave none to choose lambda "
            "on; fit to more"
        )
    kept, left = (train[0][~chosen], train[1][~chosen]), (train[0][chosen], train[1][chosen])
    fitted = choose_and_fit(kept, left, score, classes=count, iterations=iterations)
    frequent = Counter(test[1].tolist()).most_common(1)[0][1] / len(test[1])
    per_class = 1 / len(set(test[1].tolist()))
    return {
        metric: score(fitted.logits(test[0]), test[1]),
        f"{metric}_majority": frequent if metric == "accuracy" else per_class,
        "lambda_exponent": float(np.log10(fitted.strength)),
        "classes": count,
        "train": len(train[1]),
        "test": len(test[1]),
    }


def stratified(labels: Labels, share: float, seed: int) -> NDArray[np.bool_]:
    """Choose a share of each class's rows, by the seed alone.

    Args:
        labels: (N,) classes.
        share: What part of each.
        seed: Decides which.

    Returns:
        (N,) bool; of a class of two or more rows at least one is chosen and one is not.
    """
    chosen = np.zeros(len(labels), np.bool_)
    for value in np.unique(labels):
        rows = np.flatnonzero(labels == value)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        order = generator(seed, "held out", (int(value),)).permutation(rows)
        chosen[order[:count]] = True
    return chosen
