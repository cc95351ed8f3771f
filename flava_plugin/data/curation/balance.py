"""MetaCLIP's balancing: the head of the distribution of things is thinned, the tail kept whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.matches import Matching
from flava_plugin.data.curation.sections import BalanceStep
from flava_plugin.data.curation.table import Table
from flava_plugin.data.randomness import key_of, uniform

THRESHOLD = 20_000
"""Of the paper, for 400 million pairs from CommonCrawl."""

_NAMED = 20  # entries that the report names


def balance(
    table: Table, kept: NDArray[np.bool_], step: BalanceStep, matching: Matching, seed: int
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Balance what is left.

    Args:
        table: Of all samples.
        kept: (samples,) which are left.
        step: How.
        matching: What the captions match, worked out.
        seed: Of chance: a sample's luck with an entry is a function of the seed, its own content
            and the entry, so it stays when samples or entries are added.

    Returns:
        (samples,) which are left, and what to report.
    """
    counts = np.zeros(len(matching.phrases), np.int64)
    for part, own in table.by_part(kept):
        entries, samples = _matches(matching, part)
        counts += np.bincount(entries[own[samples]], minlength=len(counts))
    threshold = step.threshold or (threshold_of_tail(counts, step.tail) if step.tail else THRESHOLD)
    chances = threshold / np.maximum(counts, threshold)
    luck, marks = key_of(seed, "balance")[0], matching.phrases.marks()
    left = np.zeros_like(kept)
    unmatched = 0
    for part, own in table.by_part(kept):
        entries, samples = _matches(matching, part)
        draws = uniform(luck, table.identities(part)[samples] ^ marks[entries])
        chosen = np.zeros_like(own)
        chosen[samples[draws < chances[entries]]] = True
        matched = np.zeros_like(own)
        matched[samples] = True
        unmatched += int((own & ~matched).sum())
        if step.unmatched == "keep":
            chosen |= ~matched
        left[table.parts.indices(part).start : table.parts.indices(part).stop] = own & chosen
    return left, _report(matching, counts, threshold, unmatched)


def threshold_of_tail(counts: NDArray[np.int64], tail: float) -> int:
    """Find the threshold below which entries have a share of all matches.

    Args:
        counts: (entries,) matches of each.
        tail: The share.

    Returns:
        The largest count such that the entries below it have no more than the share; at least 1.
    """
    values, numbers = np.unique(counts[counts > 0], return_counts=True)
    if not len(values):
        return 1
    below = np.cumsum(values * numbers) - values * numbers  # matches of entries below each value
    fitting = values[below <= tail * float((values * numbers).sum())]
    return int(fitting[-1])


def _matches(matching: Matching, part: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Entry and sample of each match of a part."""
    ends = matching.files.column(part, "ends").astype(np.int64)
    entries = matching.files.column(part, "entries").astype(np.int64)
    return entries, np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))


def _report(
    matching: Matching, counts: NDArray[np.int64], threshold: int, unmatched: int
) -> dict[str, Any]:
    total = int(counts.sum())
    head = counts > threshold
    order = np.argsort(-counts, kind="stable")[:_NAMED].tolist()
    return {
        "threshold": threshold,
        "entries": len(counts),
        "entries_matched": int((counts > 0).sum()),
        "entries_head": int(head.sum()),
        "entries_unreachable": matching.phrases.unreachable(),
        "matches": total,
        "tail_share": round(float(counts[~head].sum()) / total, 6) if total else 0.0,
        "unmatched": unmatched,
        "most": {matching.phrases.entries[n]: int(counts[n]) for n in order if counts[n]},
    }
