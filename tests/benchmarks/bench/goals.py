"""What the project promises; every figure is a ratio, above 1 where ours is faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AS_THEY_COME: Mapping[tuple[str, str], float] = {
    ("small", "pair_padded"): 1.5,
    ("small", "pair"): 1.25,
    ("small", "image"): 1.35,
    ("small", "text"): 1.4,
    ("base", "pair_padded"): 1.4,
    ("base", "pair"): 1.08,
    ("base", "image"): 1.3,
    ("base", "text"): 1.25,
}
"""Against the faster peer, CPU, fp32, the codebook in the step where there is one."""

BEST: Mapping[tuple[str, str], float] = {("small", "pair_padded"): 1.3, ("small", "text"): 1.0}
"""The same against peers at their best settings."""

BF16_GIVEN = 1.4
"""Against the faster peer as it comes, pairs padded, small, bf16 on both sides, tokens given."""

BF16_DISTANCE = 1.1
"""Most that ours may be further from fp32 than a peer, median and worst."""

MEMORY = 0.75
"""Most of the better peer's memory above the built model, small, pairs padded."""

CACHED_MEMORY = 1.2
"""Most of the peak at 512 rows that a step of 4096 rows may have."""

GPU_STEP, GPU_MEMORY, GPU_MFU = 2.0, 0.5, 0.45
"""On a GPU: base, bf16, pairs padded, against the better peer at its best settings."""


def of_row(row: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a timed row has to reach, by the name of the setting."""
    place = (row["size"], row["kind"])
    if row["device"] != "cpu":
        gpu = (place, row["precision"]) == (("base", "pair_padded"), "bf16")
        return {"best": GPU_STEP} if gpu else {}
    if row["precision"] == "bf16":
        return {"as_they_come": BF16_GIVEN} if place == ("small", "pair_padded") else {}
    if row["tokens"] == "given":
        return {}
    found = {"as_they_come": AS_THEY_COME.get(place), "best": BEST.get(place)}
    return {setting: goal for setting, goal in found.items() if goal is not None}


def of_memory(found: Mapping[str, Any], setting: str) -> float | None:
    """The most that ours may take of the better peer's memory; None where nothing is promised."""
    place = (found["device"] == "cpu", found["size"], found["kind"], setting)
    return {
        (True, "small", "pair_padded", "as_they_come"): MEMORY,
        (False, "base", "pair_padded", "best"): GPU_MEMORY,
    }.get(place)
