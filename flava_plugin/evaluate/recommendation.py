"""Weights, shares and clipping that a joint run's gradient norms speak for.

Weights: objectives that meet in a step are added up, and AdamW lets the encoders go the way of the
largest gradient. One that is small beside them is delayed, and gets the weight at which it is as
large as the largest one of its kind of step, in that encoder where it is nearest to it; the
geometric mean over diagnoses. One encoder, since every objective is weak somewhere by its nature:
the patches of MMM-image hardly reach the text encoder. Unit weights are hard to beat (Kurin et al.,
arXiv:2201.04122), and factors of 1.0 to 1.8 did not (tests/benchmarks/RESULTS.md, Balance), so that
a small factor is left at 1.

Clipping: each step is clipped by itself, so a kind of step with a large gradient, such as one with
four objectives, loses weight to the others. Where it does, clipping at twice the largest norm of a
kind lets weights mean what they say, and still stops a step that is out of all proportion.

Shares: fair ones, by what steps of a kind are worth to the objectives of all (``fair_shares.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import NamedTuple

from flava_plugin.balance_record import READS, BalanceRecord
from flava_plugin.evaluate.balance_findings import FAVOURED
from flava_plugin.evaluate.fair_shares import Worths, fair_shares, worths

DIGITS = 2
"""Of what is recommended: norms of different seeds differ by more than the third one says."""

BEHIND = 2.0
"""The least factor by which a weight is raised."""


class Recommendation(NamedTuple):
    """What a recipe could say.

    Attributes:
        weights: By objective; 1 for one that is not far behind its kind, and never less.
        shares: By kind of batch, adding up to 1 but for rounding.
        clip_norm: Largest norm of a step; None to leave the recipe's.
        worths: What a step of each kind is worth to each objective under these weights.
    """

    weights: dict[str, float]
    shares: dict[str, float]
    clip_norm: float | None
    worths: Worths


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
    behind = {
        name: geometric_mean(_behind(record, name, groups[kind]) for record in records)
        for name, kind in kinds.items()
    }
    weights = {n: _rounded(factor) if factor >= BEHIND else 1.0 for n, factor in behind.items()}
    clip_norm = None
    if any(_favours(record) for record in records):
        own = [{name: weights[name] for name in names} for names in groups.values()]
        largest = max(record.norm_of_sum(mine) for mine in own for record in records)
        clip_norm = _rounded(2 * largest)
    found = worths(records, kinds, weights)
    shares = {kind: round(share, DIGITS) for kind, share in fair_shares(found).items()}
    return Recommendation(weights, shares, clip_norm, found)


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


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
