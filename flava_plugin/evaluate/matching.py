"""Image-text matching: does the model tell a caption from a wrong one, near misses included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from flava_plugin.evaluate.abilities import check_objective
from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.samples import batches, open_dataset
from flava_plugin.evaluate.sharing import share
from flava_plugin.schema import DatasetSpec
from flava_plugin.types import Dataset, Key, Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava


def matching(
    *,
    dataset: DatasetSpec,
    split: str = "dev",
    count: int | None = None,
    masked: bool = True,
    objective: str = "itm",
    trained_share: float | None = None,
) -> Matching:
    """Measure accuracy on every picture twice: with its caption, and with a wrong one.

    So half of the pairs match and neither the picture nor the caption alone tells. Every other
    wrong caption is the dataset's near miss (``Sample.negative_text``) where it offers one, the
    rest are other pictures' captions.

    A head trained where most pairs match says so of most pairs. Here half of them do, so its odds
    are divided by those of its training (Saerens et al. 2002), which is no fit to the data that is
    measured on; ``uncorrected`` is the accuracy without.

    Args:
        dataset: Pairs.
        split: Split of the dataset.
        count: Pictures, the first ones of the dataset; None takes all.
        masked: Hide patches and words as in training, where the head saw nothing else; False
            shows the whole pair.
        objective: The objective whose head decides.
        trained_share: Share of matching pairs in training; None takes ``data.matching`` of the
            run's recipe.

    Returns:
        The task.
    """
    return Matching(open_dataset(dataset, split), count, masked, objective, trained_share)


class Trial(NamedTuple):
    """A picture with a caption that may be wrong.

    Attributes:
        key: The picture's key.
        sample: Picture and caption.
        matched: Whether they belong together.
        hard: Whether the caption is a near miss.
    """

    key: Key
    sample: Sample
    matched: bool
    hard: bool


class Matching:
    """The matching task on one dataset.

    Args:
        dataset: Pairs.
        count: Pictures, the first ones; None takes all.
        masked: Hide patches and words as in training.
        objective: The objective whose head decides.
        trained_share: Share of matching pairs in training; None takes the recipe's.
    """

    def __init__(
        self,
        dataset: Dataset,
        count: int | None,
        masked: bool,
        objective: str,
        trained_share: float | None,
    ) -> None:
        self.dataset = dataset
        self.count = len(dataset) if count is None else min(count, len(dataset))
        self.masked = masked
        self.objective = objective
        self.trained_share = trained_share

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Measure.

        Args:
            flava: The model.

        Returns:
            ``accuracy`` beside ``majority``; ``uncorrected``, by the head's own odds; the share of
            right decisions on ``matched_pairs``, ``near_misses`` and ``other_captions``;
            ``pairs``, the number of decisions.

        Raises:
            ValueError: The dataset holds no pair.
        """
        check_objective(self.objective, flava.objectives)
        right: dict[str, list[bool]] = {}
        uncorrected = []
        correction = self._correction(flava)

        def judge(trials: list[Trial]) -> list[tuple[bool, bool, float]]:
            odds = self._log_odds(flava, trials)
            return [(t.matched, t.hard, each) for t, each in zip(trials, odds, strict=True)]

        for judged in share(flava, batches(self.trials(), flava.batch_size), judge):
            for matched, hard, odds in judged:
                kind = "matched_pairs" if matched else "near_misses" if hard else "other_captions"
                right.setdefault(kind, []).append((odds + correction > 0) == matched)
                uncorrected.append((odds > 0) == matched)
        if not uncorrected:
            raise ValueError("matching: the dataset holds no pair of picture and caption")
        matching_share = len(right["matched_pairs"]) / len(uncorrected)
        figures: dict[str, float | int] = {
            "accuracy": sum(map(sum, right.values())) / len(uncorrected),
            "majority": max(matching_share, 1 - matching_share),
            "uncorrected": sum(uncorrected) / len(uncorrected),
        }
        for kind in ("matched_pairs", "near_misses", "other_captions"):
            if kind in right:
                figures[kind] = sum(right[kind]) / len(right[kind])
        return {**figures, "pairs": len(uncorrected)}

    def exhibits(self, flava: Flava) -> list[Exhibit]:
        """Show a few decisions.

        Args:
            flava: The model.

        Returns:
            One exhibit of four pictures, each with both captions.
        """
        trials = [trial for trial, _ in zip(self.trials(), range(8), strict=False)]
        rows = []
        correction = self._correction(flava)
        for trial, odds in zip(trials, self._log_odds(flava, trials), strict=True):
            truth = "matches" if trial.matched else "near miss" if trial.hard else "other caption"
            verdict = (odds + correction > 0) == trial.matched
            guess = f"{1 / (1 + math.exp(-odds - correction)):.0%} sure that it matches"
            cells = [Cell("", trial.sample.image), Cell(trial.sample.text or ""), Cell(truth)]
            rows.append([*cells, Cell(guess, None, verdict)])
        note = "Every picture with its own caption and with a wrong one."
        if self.masked:
            note += " The model sees both with patches and words hidden, as in training."
        return [Exhibit("Matching", note, ("picture", "caption", "truth", "the model is"), rows)]

    def trials(self) -> Iterator[Trial]:
        """Pair every picture with its caption and with a wrong one.

        Yields:
            Trial: Two per picture; none for a picture without any wrong caption at hand.
        """
        captions = [self.dataset.read(index).text for index in range(self.count)]
        near = False
        for index in range(self.count):
            sample = self.dataset.read(index)
            if sample.image is None or sample.text is None:
                continue
            others = (captions[(index + step) % self.count] for step in range(1, self.count))
            other = next((text for text in others if text and text != sample.text), None)
            near = not near
            hard = sample.negative_text is not None and (near or other is None)
            wrong = sample.negative_text if hard else other
            if wrong is None:
                continue
            key = Key("evaluate", 0, index)
            yield Trial(key, Sample(sample.image, sample.text), True, False)
            yield Trial(key, Sample(sample.image, wrong), False, hard)

    def _correction(self, flava: Flava) -> float:
        """What turns the log odds of the training's share of matches into those of one half."""
        share = self.trained_share
        if share is None:
            share = 1 - flava.recipe.data.matching.negatives
        share = min(max(share, 1e-3), 1 - 1e-3)  # where all matched, nothing was learnt to correct
        return math.log((1 - share) / share)

    def _log_odds(self, flava: Flava, trials: list[Trial]) -> list[float]:
        samples = [trial.sample for trial in trials]
        keys = [trial.key for trial in trials] if self.masked else None
        matched = torch.tensor([trial.matched for trial in trials])
        batch = flava.batch(samples, "pair", keys=keys, matched=matched)
        logits = flava.predict(self.objective, batch).float()
        odds: list[float] = (logits[:, 1] - logits[:, 0]).tolist()
        return odds
