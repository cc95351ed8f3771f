"""Steps of all implementations in turns, and the ratios of each round."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from statistics import median

from tests.benchmarks.bench.batches import Work
from tests.benchmarks.bench.implementation import PARTS, Implementation, Precision
from tests.benchmarks.bench.stopwatch import Stopwatch

Rounds = list[list[float]]
"""Seconds of ``PARTS``, round by round."""


def time_in_turns(
    rig: Mapping[str, Implementation],
    work: Work,
    precision: Precision,
    watch: Stopwatch,
    *,
    rounds: int,
    warmup: int = 1,
) -> dict[str, Rounds]:
    """Make steps; every round is in the opposite order of the one before.

    Args:
        rig: The implementations.
        work: The batch of every step.
        precision: Of all.
        watch: The clock.
        rounds: Steps of each that count.
        warmup: Steps of each before.

    Returns:
        By implementation, the seconds of each round's parts.
    """
    found: dict[str, Rounds] = {name: [] for name in rig}
    gc.collect()
    for number in range(-warmup, rounds):
        for name in list(rig) if number % 2 else list(rig)[::-1]:
            rig[name].gradients(work, precision, watch)
            rig[name].update()
            watch.mark()
            parts = watch.take()
            if number >= 0:
                found[name].append(parts)
    return found


def medians(rounds: Rounds) -> dict[str, float]:
    """Median seconds of a step and of each of its parts."""
    parts = {part: median(each[place] for each in rounds) for place, part in enumerate(PARTS)}
    return {"step": median(map(sum, rounds))} | parts


def ratios(seconds: Mapping[str, Rounds], ours: str, peers: Sequence[str]) -> dict[str, float]:
    """Medians over the rounds of a peer's time by ours, made in the same round.

    Args:
        seconds: Of ``time_in_turns``.
        ours: The implementation that is compared.
        peers: Against which; those that were not timed are left out.

    Returns:
        A ratio for each peer, above 1 where ours is faster; and ``faster``, against that peer
        which was the faster of them in each round. Empty where there is nothing to compare.
    """
    peers = [peer for peer in peers if peer in seconds]
    if ours not in seconds or not peers:
        return {}
    own = list(map(sum, seconds[ours]))
    steps = {peer: list(map(sum, seconds[peer])) for peer in peers}
    steps["faster"] = list(map(min, zip(*steps.values(), strict=True)))
    return {
        peer: median(theirs / mine for theirs, mine in zip(times, own, strict=True))
        for peer, times in steps.items()
    }
