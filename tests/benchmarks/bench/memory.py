"""Peaks of memory, every implementation in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from tests.benchmarks.bench import cached
from tests.benchmarks.bench.alone import Job, Peak, in_own_process
from tests.benchmarks.bench.rig import AS_THEY_COME, BEST, OURS


def compare(job: Job, names: Sequence[str] = (*AS_THEY_COME, *BEST, OURS)) -> dict[str, Any]:
    """Measure implementations one after the other.

    Args:
        job: What each does; its name is not read.
        names: Which.

    Returns:
        The peaks, and ours above the built model over that of the better peer, at each setting;
        on a GPU also over all that is allocated.
    """
    peaks = {name: in_own_process(replace(job, name=name)) for name in names}
    found: dict[str, Any] = asdict(job) | {
        "peaks": {name: asdict(peak) | {"above": peak.above} for name, peak in peaks.items()}
    }
    settings = {"as_they_come": AS_THEY_COME, "best": BEST}
    found["ratios"] = {setting: ratio(peaks, peers) for setting, peers in settings.items()}
    if job.device != "cpu":
        found["ratios_of_all"] = {
            setting: ratio(peaks, peers, built_too=True) for setting, peers in settings.items()
        }
    return found


def ratio(peaks: dict[str, Peak], peers: Sequence[str], *, built_too: bool = False) -> float | None:
    """Ours over the better peer; None where either was not measured."""
    sizes = {name: peak.peak if built_too else peak.above for name, peak in peaks.items()}
    theirs = [sizes[peer] for peer in peers if peer in sizes]
    return sizes[OURS] / min(theirs) if theirs and OURS in sizes else None


def cached_step(threads: int) -> dict[str, Any]:
    """Compare the cached contrastive step at two global batches, and its gradients with the plain.

    Both do the same number of rows, for the heap of a process grows with the micro-batches it has
    seen: their tensors differ in size, and what one gives back the next cannot always use.

    Returns:
        ``ratio`` is that of the whole peaks, batch and interpreter included, after as many rows;
        ``ratio_of_one_step`` after one step of each, an eighth of the rows at the smaller batch.
    """

    def peak(rows: int, steps: int) -> Peak:
        return in_own_process(Job("cached", rows=rows, steps=steps, threads=threads))

    large = peak(cached.LARGE, 1)
    small, once = (peak(cached.SMALL, steps) for steps in (cached.LARGE // cached.SMALL, 1))
    error, tensor = cached.gradient_error()
    peaks = {cached.SMALL: small, cached.LARGE: large, f"{cached.SMALL}, one step": once}
    return {
        "peaks": {rows: asdict(peak) | {"above": peak.above} for rows, peak in peaks.items()},
        "ratio": large.peak / small.peak,
        "ratio_of_one_step": large.peak / once.peak,
        "gradient_error": error,
        "tensor": tensor,
    }
