"""Masked words and patches: how often the model's first guess is what was hidden."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from flava_plugin.evaluate.exhibits import Exhibit
from flava_plugin.evaluate.masked_exhibits import patch_exhibit, word_exhibit
from flava_plugin.evaluate.samples import batches, decoded, keyed, open_dataset, rows_of
from flava_plugin.evaluate.sharing import share
from flava_plugin.model.backbone import LackingError
from flava_plugin.schema import DatasetSpec
from flava_plugin.types import Batch, Dataset, Modality

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava


class Fill(NamedTuple):
    """One way to fill in what is hidden.

    Attributes:
        figure: Its name in the results.
        objective: The objective whose head guesses.
        modality: What the encoders are given.
    """

    figure: str
    objective: str
    modality: Modality


def masked_tokens(
    *,
    dataset: DatasetSpec,
    split: str = "dev",
    count: int | None = None,
    words: str | None = "mmm_text",
    patches: str | None = "mmm_image",
    text_only: str | None = "mlm",
    image_only: str | None = "mim",
) -> MaskedTokens:
    """Measure accuracy at masked positions of matched pairs, masked as in training.

    Args:
        dataset: Pairs.
        split: Split of the dataset.
        count: Pairs, the first ones of the dataset; None takes all.
        words: Objective that fills in words of a pair; null or one that was not trained: not
            measured.
        patches: Objective that fills in patches of a pair.
        text_only: Objective that fills in the same words without seeing the picture.
        image_only: Objective that fills in the same patches without seeing the caption.

    Returns:
        The task.
    """
    fills = [
        Fill("words", words or "", "pair"),
        Fill("patches", patches or "", "pair"),
        Fill("mlm", text_only or "", "text"),
        Fill("mim", image_only or "", "image"),
    ]
    return MaskedTokens(open_dataset(dataset, split), count, fills)


class MaskedTokens:
    """The masked-token task on one dataset.

    Args:
        dataset: Pairs.
        count: Pairs, the first ones; None takes all.
        fills: What is measured; objectives that the model lacks are left out.
    """

    def __init__(self, dataset: Dataset, count: int | None, fills: Iterable[Fill]) -> None:
        self.dataset = dataset
        self.count = count
        self.fills = list(fills)

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Measure.

        Args:
            flava: The model.

        Returns:
            Each figure, and beside it ``<figure>_majority``: the share of the most frequent label
            among those that were evaluated.

        Raises:
            LackingError: The model was trained on none of these objectives.
        """
        fills = [fill for fill in self.fills if fill.objective in flava.objectives]
        if not fills:
            wanted = ", ".join(fill.objective for fill in self.fills if fill.objective)
            known = ", ".join(flava.objectives)
            raise LackingError(
                f"this model predicts nothing hidden: none of {wanted}; it has {known}"
            )
        right = {fill.figure: 0 for fill in fills}
        labels: dict[str, list[Tensor]] = {fill.figure: [] for fill in fills}

        def filled(rows: list[int]) -> list[tuple[int, Tensor]]:
            keys, group = zip(*decoded(self.dataset, rows), strict=True)
            batch = flava.batch(group, "pair", keys=keys)
            found = []
            for fill in fills:
                guesses, truth = guess(flava, fill.objective, only(batch, fill.modality))
                found.append((int((guesses == truth).sum()), truth.cpu()))
            return found

        groups = batches(rows_of(self.dataset, self.count), flava.batch_size)
        for found in share(flava, groups, filled):
            for fill, (hits, truth) in zip(fills, found, strict=True):
                right[fill.figure] += hits
                labels[fill.figure].append(truth)
        figures: dict[str, float | int] = {}
        for fill in fills:
            truth = torch.cat(labels[fill.figure])
            if len(truth):
                figures[fill.figure] = right[fill.figure] / len(truth)
                figures[f"{fill.figure}_majority"] = majority(truth)
        return figures

    def exhibits(self, flava: Flava) -> list[Exhibit]:
        """Show what the model puts at hidden places.

        Args:
            flava: The model.

        Returns:
            One exhibit of words and one of patches, where the model was trained on them.
        """
        shown = []
        for fill in self.fills:
            if fill.objective in flava.objectives and fill.modality == "pair":
                make = word_exhibit if fill.figure == "words" else patch_exhibit
                shown.append(make(flava, fill.objective, list(keyed(self.dataset, 6))))
        return shown


def only(batch: Batch, modality: Modality) -> Batch:
    """Leave out what a modality does not see.

    Args:
        batch: Masked pairs.
        modality: ``pair``, ``image`` or ``text``.

    Returns:
        The same rows as a batch of that modality.
    """
    if modality == "pair":
        return batch
    gone = ("text", "text_masked", "text_padding", "word_labels")
    if modality == "text":
        gone = ("image", "codebook_image", "codes", "patch_mask")
    empty: dict[str, Any] = dict.fromkeys((*gone, "matched", "positives"))
    return replace(batch, modality=modality, **empty)


def guess(flava: Flava, objective: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Fill in the masked positions of a batch.

    Args:
        flava: The model.
        objective: The objective whose head guesses.
        batch: Masked rows.

    Returns:
        The first guess and the label of each masked position, (N,) long each.
    """
    with flava.evaluating():
        prediction = flava.predict(objective, batch)
        # in chunks, since words times positions is the largest tensor of an evaluation
        guesses = [prediction.decode(hidden).argmax(-1) for hidden in prediction.hidden.split(1024)]
    return torch.cat(guesses), prediction.labels


def majority(labels: Tensor) -> float:
    """Share of the most frequent label.

    Args:
        labels: (N,) long, not empty.

    Returns:
        The share.
    """
    return float(labels.bincount().max()) / len(labels)
