"""What data is worth: FLAVA against CLIP's dual encoder at 1k to 1M distinct pairs of ``shapes``.

    python -m tests.benchmarks.bench.scaling --steps 1000 --seeds 3

The number of optimiser steps and the rows of a batch are the same at every size, so a small set is
passed through often and a large one not even once (column ``passes``: of the pairs, by FLAVA and by
CLIP). A pair is a picture with its caption; the first N of the stream, so that a larger set holds
the smaller one. FLAVA's single pictures and sentences are as many. Measured on what no training
stream holds: combinations of colour and shape that were never seen.

Runs and figures stay in ``--folder``, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.bench.shapes_runs import (
    RECIPES,
    RETRIEVAL,
    Trial,
    cell,
    measured,
    options,
    spread,
    table,
    tasks_of,
)

SIZES = "1000,10000,100000,1000000"
MODELS = ("flava", "clip")
SOURCES = {"flava": ("pairs", "images", "sentences"), "clip": ("pairs",)}
"""Sources of each recipe, all of the same size."""

ROWS = 64
"""``data.global_batch`` of both recipes."""

PAIRS = {"flava": 0.70, "clip": 1.0}
"""Share of steps that are pairs."""

Lines = dict[tuple[str, int], list[dict[str, Any]]]


def main() -> int:
    """Train and measure at every size, and print the curve.

    Returns:
        0, or 1 where a model gains nothing from the first size to the last.
    """
    parser = options(__doc__, 1000)
    parser.add_argument("--folder", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--sizes", default=SIZES, help="numbers of pairs, rising")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    wanted = ("evaluate.tasks.retrieval=", "evaluate.tasks.zero_shot=")
    tasks = [task for task in tasks_of(RECIPES["flava"]) if task.startswith(wanted)]
    others = [f"evaluate.tasks.{name}=null" for name in ("masked", "itm", "questions")]
    lines: Lines = {(model, size): [] for model in MODELS for size in sizes}
    for seed in range(arguments.seeds):
        for model, size in lines:
            changes = tuple(f"data.sources.{s}.dataset.size={size}" for s in SOURCES[model])
            trial = Trial(model, seed, arguments.steps, str(size), changes)
            asked = [*tasks, *(others if model == "flava" else ())]
            lines[model, size].append(measured(trial, arguments, asked))
    sys.stdout.write(f"{show(lines, sizes, arguments.steps)}\n")
    lost = [name for name in MODELS if gain(lines, name, sizes) <= 0]
    for name in lost:
        sys.stdout.write(f"{name} gains nothing from {sizes[0]:,} to {sizes[-1]:,} pairs\n")
    return int(bool(lost))


def show(lines: Lines, sizes: list[int], steps: int) -> str:
    """Lay out the curve: a line for each size, both models beside each other.

    Args:
        lines: Of every run, by model and size.
        sizes: Numbers of pairs.
        steps: Of every run.

    Returns:
        A table of Markdown for each figure.
    """
    parts = []
    for figure, words in RETRIEVAL.items():
        rows = []
        for size in sizes:
            passes = (f"{PAIRS[model] * steps * ROWS / size:.2g}" for model in MODELS)
            cells = (cell(spread(lines[model, size], figure)) for model in MODELS)
            rows.append([f"{size:,}", ", ".join(passes), *cells, difference(lines, size, figure)])
        head = ["distinct pairs", "passes", *MODELS, "flava less clip"]
        parts.append(f"{words}\n\n{table(head, rows)}\n")
    return "\n".join(parts)


def difference(lines: Lines, size: int, figure: str) -> str:
    """Write by how much FLAVA is better.

    Args:
        lines: Of every run, by model and size.
        size: Number of pairs.
        figure: ``task.figure``.

    Returns:
        Mean over seeds with its standard error.
    """
    pairs = zip(*(lines[model, size] for model in MODELS), strict=True)
    gains = [{"figures": {figure: a["figures"][figure] - b["figures"][figure]}} for a, b in pairs]
    return cell(spread(gains, figure))


def gain(lines: Lines, model: str, sizes: list[int]) -> float:
    """What the largest set is worth over the smallest: mean of all figures.

    Args:
        lines: Of every run, by model and size.
        model: Whose.
        sizes: Numbers of pairs.

    Returns:
        The gain; more data that does not help is a fault of the data or of the training.
    """
    means = []
    for size in (sizes[0], sizes[-1]):
        found = (spread(lines[model, size], figure) for figure in RETRIEVAL)
        means.append(sum(mean for mean, _ in filter(None, found)))
    return (means[1] - means[0]) / len(RETRIEVAL)


if __name__ == "__main__":
    sys.exit(main())
