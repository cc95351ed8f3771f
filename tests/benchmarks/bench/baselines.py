"""FLAVA beside two dual encoders, CLIP's and ALIGN's, on ``shapes`` at an equal budget.

    python -m tests.benchmarks.bench.baselines --steps 1000 --seeds 3 --budget both

Budget ``steps``: the same optimiser steps of the same rows. The dual encoders have but one loss, so
all their steps are pairs, where FLAVA's are to 0.70, and a step of theirs costs less. Budget
``cpu``: a dual encoder makes as many more steps as they cost less processor time than FLAVA's,
measured beforehand; it sees several times the pairs then.

Every model is asked all tasks of ``pretrain/shapes``; ``-`` stands where it has no part for one.
Runs and figures stay in ``--folder``, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import statistics
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
    pace,
    spread,
    table,
    tasks_of,
)

FIGURES = {
    **RETRIEVAL,
    "masked.words": "masked words, with the picture",
    "masked.patches": "masked patches, with the caption",
    "masked.mlm": "masked words, text alone",
    "masked.mim": "masked patches, picture alone",
    "itm.accuracy": "image-text matching",
    "questions.color": "colour questions, head on the frozen model",
}
"""Every figure of ``pretrain/shapes``, and how the table calls it."""

Lines = dict[str, list[dict[str, Any]]]


def main() -> int:
    """Train and measure every model, and print a table for each budget.

    Returns:
        0, or 1 where a dual encoder fills the table or FLAVA does not.
    """
    parser = options(__doc__, 1000)
    parser.add_argument("--folder", type=Path, default=Path("runs/baselines"))
    parser.add_argument("--budget", default="steps", choices=("steps", "cpu", "both"))
    arguments = parser.parse_args()
    tasks = tasks_of(RECIPES["flava"])
    found: dict[str, Lines] = {"steps": {model: [] for model in RECIPES}}
    for seed in range(arguments.seeds):
        for model in RECIPES:
            trial = Trial(model, seed, arguments.steps, "steps")
            found["steps"][model].append(measured(trial, arguments, tasks))
    if arguments.budget != "steps":
        costs = {model: pace(model, arguments) for model in RECIPES}
        found["cpu"] = {"flava": found["steps"]["flava"], "clip": [], "align": []}
        for seed in range(arguments.seeds):
            for model in ("clip", "align"):
                steps = max(1, round(arguments.steps * costs["flava"] / costs[model]))
                trial = Trial(model, seed, steps, "cpu")
                found["cpu"][model].append(measured(trial, arguments, tasks))
        told = ", ".join(f"{model} {1000 * cost:.0f}" for model, cost in costs.items())
        sys.stdout.write(f"processor time of a step in ms: {told}\n\n")
    for budget, lines in found.items():
        if arguments.budget in (budget, "both"):
            sys.stdout.write(f"equal {budget}, seeds {arguments.seeds}\n\n{show(lines)}\n\n")
    every = (lines for lines in found.values())
    return int(not all(alone_is_flava(lines) for lines in every))


def show(lines: Lines) -> str:
    """Lay out one budget.

    Args:
        lines: Of every run, by model.

    Returns:
        A table of Markdown.
    """
    first = {model: own[0] for model, own in lines.items()}
    rows = [
        [words, *(cell(spread(own, figure)) for own in lines.values())]
        for figure, words in FIGURES.items()
    ]
    rows.append(["steps", *(str(line["steps"]) for line in first.values())])
    rows.append(
        [
            "training, s",
            *(f"{statistics.median(x['seconds'] for x in o):.0f}" for o in lines.values()),
        ]
    )
    for part in ("image", "text", "all"):
        rows.append(
            [f"parameters, {part}", *(f"{x['parameters'][part]:,}" for x in first.values())]
        )
    return table(["figure (mean ± standard error)", *lines], rows)


def alone_is_flava(lines: Lines) -> bool:
    """Whether FLAVA has every figure and no other model has.

    Args:
        lines: Of every run, by model.

    Returns:
        Whether it is so.
    """
    full = {
        model: all(spread(own, figure) is not None for figure in FIGURES)
        for model, own in lines.items()
    }
    return full == {model: model == "flava" for model in lines}


if __name__ == "__main__":
    sys.exit(main())
