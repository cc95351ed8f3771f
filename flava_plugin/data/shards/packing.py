"""Any dataset -> shards with their index: in parallel, going on where it was stopped.

Each part is a function of the plan, so the same plan gives the same bytes however often the work is
interrupted and however many processes do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flava_plugin.data.budget import Budget, TooMuchDamageError
from flava_plugin.data.shards.manifest import Manifest, ShardEntry, gather
from flava_plugin.data.shards.packing_folder import PackFolder
from flava_plugin.data.shards.packing_part import (
    Bench,
    LeftOut,
    read_part,
    too_much,
    write_part,
)
from flava_plugin.data.shards.packing_plan import PackPlan
from flava_plugin.data.spreading import spread
from flava_plugin.types import Dataset


@dataclass(frozen=True)
class Packed:
    """A finished pack.

    Attributes:
        shards: Number of tars.
        samples: In them.
        size: Their bytes.
        left_out: Damaged samples by reason.
        kept: Samples that an earlier start had dealt with.
    """

    shards: int
    samples: int
    size: int
    left_out: dict[str, int]
    kept: int


def plan_of(dataset: Dataset, /, **settings: Any) -> PackPlan:
    """Make the plan of a dataset.

    Args:
        dataset: The dataset.
        **settings: The attributes of ``PackPlan`` but ``fingerprint`` and ``samples``.

    Returns:
        The plan.
    """
    own = str(getattr(dataset, "fingerprint", "")) or f"{len(dataset)} samples"
    return PackPlan(fingerprint=own, samples=len(dataset), **settings)


def pack(
    dataset: Dataset,
    plan: PackPlan,
    folder: Path,
    *,
    jobs: int = 1,
    budget: Budget = Budget(),  # noqa: B008 (it cannot be changed)
    tick: Callable[[int], object] = lambda number: None,
) -> Packed:
    """Write a dataset as shards.

    Args:
        dataset: Where samples are read.
        plan: What goes where.
        folder: Where to; made where it is missing.
        jobs: Processes.
        budget: Damaged samples that may be left out.
        tick: Told of the samples that are done.

    Returns:
        What there is now.

    Raises:
        ValueError: The folder holds something else, another process packs into it, or no sample
            is sound.
        TooMuchDamageError: More samples are damaged than the budget allows; what is done is kept.
        OSError: The disk is full, or a process was killed.
    """
    with PackFolder(folder, plan) as place:
        finished = place.finished()
        if finished is not None:
            tick(plan.samples)
            return Packed(**finished, kept=plan.samples)
        allowed = budget.allowed(plan.samples)
        bench = Bench(dataset, plan, folder, place.records, allowed)
        done = {part: each for part in range(plan.parts) if (each := read_part(bench, part))}
        kept = sum(len(plan.indices(part)) for part in done)
        tick(kept)
        left_out = [each for part in done.values() for each in part.left_out]
        missing = [part for part in range(plan.parts) if part not in done]
        results = spread(write_part, bench, missing, jobs=jobs, tick=tick)
        for part, result in zip(missing, results, strict=True):
            done[part] = result
            left_out += result.left_out
            if len(left_out) > allowed:
                results.close()
                break
        if len(left_out) > allowed:
            raise TooMuchDamageError(too_much(left_out, allowed))
        entries = [entry for part in sorted(done) for entry in done[part].entries]
        if not entries:
            raise ValueError(f"none of {plan.samples} samples is sound; nothing was packed")
        ordered = [each for part in sorted(done) for each in done[part].left_out]
        return _close(place, dataset, plan, entries, ordered, kept)


def _close(
    place: PackFolder,
    dataset: Dataset,
    plan: PackPlan,
    entries: list[ShardEntry],
    left_out: list[LeftOut],
    kept: int,
) -> Packed:
    """Write the list of shards, and then that the pack is whole."""
    manifest: Manifest = gather(entries, kind=plan.kind, caption_key="caption", faults={})
    counts = dict(sorted(Counter(each.reason for each in left_out).items()))
    result: dict[str, Any] = {
        "shards": len(entries),
        "samples": int(manifest.samples.sum()),
        "size": int(manifest.sizes.sum()),
        "left_out": counts,
    }
    manifest.write(place.folder)
    about = {
        name: value
        for name in ("class_names", "coverage")
        if (value := getattr(dataset, name, None))
    }
    place.finish(result, {"manifest": manifest.fingerprint, **about}, left_out)
    return Packed(**result, kept=kept)
