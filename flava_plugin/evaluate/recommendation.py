"""Weights, shares and clipping that a joint run's gradient norms speak for.

Weights: objectives that meet in a step are added up, and AdamW lets the encoders go the way of the
largest gradient. One that is small beside them is delayed, and gets the weight at which it is as
large as the largest one of its kind of step, in that encoder where it is nearest to it; the
geometric mean over diagnoses. One encoder, since every objective is weak somewhere by its nature:
the patches of MMM-image hardly reach the text encoder.

Clipping: each step is clipped by itself, so a kind of step with a large gradient, such as one with
four objectives, loses weight to the others. Where it does, clipping at twice the largest norm of a
kind lets weights mean what they say, and still stops a step that is out of all proportion.

Shares: a kind gets steps in proportion to the norm of its whole weighted gradient, over all
encoders. So importance sampling divides samples between strata (Zhao and Zhang 1401.2753), to
estimate the sum of gradients with the least variance; unlike there, losses are not divided by the
share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from flava_plugin.balance_record import READS, BalanceRecord
from flava_plugin.evaluate.balance_findings import FAVOURED

DIGITS = 2
"""Of what is recommended: norms of different seeds differ by more than the third one says."""


class Recommendation(NamedTuple):
    """What a recipe could say.

    Attributes:
        weights: By objective; 1 for one that always leads its kind, and never less.
        shares: By kind of batch, adding up to 1 but for rounding.
        clip_norm: Largest norm of a step; None to leave the recipe's.
    """

    weights: dict[str, float]
    shares: dict[str, float]
    clip_norm: float | None


def recommend(records: Sequence[BalanceRecord], kinds: Mapping[str, str]) -> Recommendation:
    """Read weights and shares off diagnoses.

    Args:
        records: Of joint runs, at least one.
        kinds: The kind of batch of each objective.

    Returns:
        The recommendation.

    Raises:
        ValueError: There is no record.
    """
    if not records:
        raise ValueError("no diagnosis to recommend from; train with balance.diagnose.every=N")
    groups = {kind: [n for n, k in kinds.items() if k == kind] for kind in kinds.values()}
    weights = {
        name: _rounded(_geometric(_behind(record, name, groups[kind]) for record in records))
        for name, kind in kinds.items()
    }
    own = {kind: {name: weights[name] for name in names} for kind, names in groups.items()}
    sizes = {
        kind: _geometric(record.norm_of_sum(mine, heads=False) for record in records)
        for kind, mine in own.items()
    }
    clip_norm = None
    if any(_favours(record) for record in records):
        largest = max(record.norm_of_sum(mine) for mine in own.values() for record in records)
        clip_norm = _rounded(2 * largest)
    whole = sum(sizes.values())
    shares = {kind: _rounded(size / whole) for kind, size in sizes.items()}
    return Recommendation(weights, shares, clip_norm)


def _behind(record: BalanceRecord, name: str, peers: Sequence[str]) -> float:
    """How many times smaller a gradient is than the largest of its kind, where it is nearest."""
    found = []
    for encoder in record.encoders():
        norms = record.norms(encoder)
        if norms[name] > READS:
            found.append(max(norms[peer] for peer in peers) / norms[name])
    return min(found, default=1.0)


def _favours(record: BalanceRecord) -> bool:
    """Whether clipping leaves much more of one kind of step than of another."""
    clips = record.clips().values()
    return bool(clips) and max(clips) > FAVOURED * min(clips)


def _geometric(values: Iterable[float]) -> float:
    found = list(values)
    if min(found) <= 0.0:
        return 0.0
    return math.exp(fmean(math.log(value) for value in found))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
