"""One row of the table: gate, times, ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tests.benchmarks.bench import gate, goals, timing
from tests.benchmarks.bench.batches import KINDS, make_work
from tests.benchmarks.bench.implementation import Implementation, Precision
from tests.benchmarks.bench.rig import AS_THEY_COME, BEST, OURS, RELEASED
from tests.benchmarks.bench.sizes import SIZES
from tests.benchmarks.bench.stopwatch import Stopwatch

DISTANCE_BATCHES = 3
"""Batches over which the gradients' distance from fp32 is averaged."""

SETTINGS = {"as_they_come": AS_THEY_COME, "best": BEST}


@dataclass(frozen=True)
class RowSpec:
    """What a row holds.

    Attributes:
        size: Name of a size.
        kind: Name of a kind of batch.
        tokens: ``computed``: the codebook is part of the step; ``given``: to all; ``none``: of
            texts.
        precision: Of all implementations.
    """

    size: str
    kind: str
    tokens: str
    precision: Precision


def plan(
    sizes: Sequence[str], kinds: Sequence[str], tokens: Sequence[str], precisions: Sequence[str]
) -> Iterator[RowSpec]:
    """List rows, those of one size together.

    In bf16 tokens are always given: both peers run their codebook in bf16 too, and so predict other
    tokens than in fp32.
    """
    for size in sizes:
        for precision in precisions:
            for kind in kinds:
                choices = tokens if KINDS[kind].has_codes else ("none",)
                if precision == "bf16" and KINDS[kind].has_codes:
                    choices = ("given",)
                for choice in choices:
                    yield RowSpec(size, kind, choice, precision)  # type: ignore[arg-type]


def run_row(
    spec: RowSpec,
    rig: Mapping[str, Implementation],
    watch: Stopwatch,
    device: torch.device,
    *,
    rounds: int,
    warmup: int = 1,
    rows: int = 0,
    compiled: bool = False,
    timed: Sequence[str] = (),
) -> dict[str, Any]:
    """Gate a row and, if it passes, time it.

    Args:
        spec: The row.
        rig: Every implementation of the size.
        watch: The clock.
        device: Where the rig is.
        rounds: Steps of each that count.
        warmup: Steps of each before.
        rows: Rows of the batch; 0 for the size's own.
        compiled: Whether ours is compiled.
        timed: Names of those to time; all but ``ours_released`` if empty.

    Returns:
        What goes into the JSON; without ``seconds`` and ``ratios`` where the gate failed.
    """
    options: dict[str, Any] = {"given": spec.tokens == "given", "rows": rows, "compiled": compiled}
    works = [
        make_work(SIZES[spec.size], KINDS[spec.kind], seed=seed, **options).to(device)
        for seed in range(DISTANCE_BATCHES if spec.precision == "bf16" else 1)
    ]
    work = works[0]
    verdicts = gate.check(rig, work)
    row: dict[str, Any] = asdict(spec) | {
        "device": device.type,
        "rows": len(work.padded),
        "longest": work.longest,
        "gate": [asdict(verdict) | {"passed": verdict.passed} for verdict in verdicts],
        "passed": all(verdict.passed for verdict in verdicts),
    }
    if not row["passed"]:
        return row
    if spec.precision == "bf16":
        row["distances"] = {
            name: gate.summary(gate.distances(rig[name], rig[OURS], works))
            for name in (*AS_THEY_COME, OURS)
            if name in rig
        }
    names = timed or [name for name in rig if name != RELEASED]
    chosen = {name: rig[name] for name in rig if name in names}
    seconds = timing.time_in_turns(
        chosen, work, spec.precision, watch, rounds=rounds, warmup=warmup
    )
    row["seconds"] = {
        name: timing.medians(found) | {"rounds": found} for name, found in seconds.items()
    }
    row["ratios"] = {
        setting: timing.ratios(seconds, OURS, peers) for setting, peers in SETTINGS.items()
    }
    if RELEASED in seconds:
        row["ratios"]["released"] = timing.ratios(
            seconds, RELEASED, ["torchmultimodal", "torchmultimodal_best"]
        )
    row["goals"] = goals.of_row(row)
    return row
