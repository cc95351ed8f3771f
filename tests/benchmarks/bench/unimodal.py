"""What ``pretrain/shapes`` gains from encoders that were trained alone, as in the paper.

    python -m tests.benchmarks.bench.unimodal --steps 1000 --early 300 --before 300 --seeds 3

For each seed ``pretrain/mim_shapes`` and ``pretrain/mlm_shapes`` train for ``--before`` steps each,
and the joint run starts from both encoders, with and without their heads, or from scratch. It is
measured with few steps and with many, and from scratch also with as many batches in all: both
trainings of one encoder included. That row has the dearer batches, for most are of pairs.
A difference is paired by seed. ``mean`` is over the figures, retrieval counted once.

Runs and figures stay in ``--folder``, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.bench.shapes_runs import (
    ENCODERS,
    RECIPES,
    Trial,
    cell,
    measured,
    options,
    spread,
    table,
    tasks_of,
    train,
)
from tests.benchmarks.bench.strategies import with_means

COLUMNS = {
    "masked.mim": "MIM",
    "masked.mlm": "MLM",
    "masked.patches": "MMM patches",
    "masked.words": "MMM words",
    "retrieval.image_to_text_r1": "image to text R@1",
    "retrieval.text_to_image_r1": "text to image R@1",
    "zero_shot.unseen_combinations": "zero-shot",
    "itm.accuracy": "ITM",
    "mean": "mean",
}
"""Figures, and how the tables call them."""

SECTIONS = {"mim": "image", "mlm": "text"}
"""Key of ``init`` by the objective that trains an encoder alone."""


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        start: ``scratch``, ``encoders`` or ``heads``: those of the encoders' objectives besides.
        steps: Of the joint run.
        batches: Of all runs that it took.
    """

    start: str
    steps: int
    batches: int

    @property
    def title(self) -> str:
        """What the tables call it."""
        starts = {"encoders": "both encoders", "heads": "both encoders and heads"}
        return f"{starts.get(self.start, self.start)}, {self.steps} steps"


def rows(steps: Sequence[int], before: int) -> list[Row]:
    """List what is compared.

    Args:
        steps: Of the joint runs.
        before: Steps of each training of one encoder.

    Returns:
        For each number of steps four rows: from scratch, from encoders, from encoders and heads,
        and from scratch with as many batches in all.
    """
    found = []
    for number in steps:
        whole = number + len(ENCODERS) * before
        found += [
            Row("scratch", number, number),
            Row("encoders", number, whole),
            Row("heads", number, whole),
            Row("scratch", whole, whole),
        ]
    return found


def main() -> int:
    """Train and measure every row, and print the tables.

    Returns:
        0.
    """
    parser = options(__doc__, 1000)
    parser.add_argument("--early", type=int, default=300, help="steps of the short joint runs")
    parser.add_argument("--before", type=int, default=300, help="steps of an encoder alone")
    parser.add_argument("--folder", type=Path, default=Path("runs/unimodal"))
    arguments = parser.parse_args()
    tasks = [task for task in tasks_of(RECIPES["flava"]) if ".questions=" not in task]
    chosen = rows((arguments.early, arguments.steps), arguments.before)
    lines: dict[Row, list[dict[str, Any]]] = {row: [] for row in chosen}
    for seed in range(arguments.seeds):
        alone = {name: Trial(name, seed, arguments.before, "alone") for name in ENCODERS}
        for trial in alone.values():
            train(trial, arguments)
        for row in lines:
            changes = (*start(row, alone, arguments), "evaluate.tasks.questions=null")
            trial = Trial("flava", seed, row.steps, row.start, changes)
            lines[row].append(with_means(measured(trial, arguments, tasks)))
    sys.stdout.write(f"{show(lines)}\n\n{differences(lines)}\n")
    return 0


def start(row: Row, alone: Mapping[str, Trial], arguments: argparse.Namespace) -> tuple[str, ...]:
    """Say where a row's joint run starts.

    Args:
        row: The row.
        alone: The trainings of one encoder, by objective.
        arguments: With ``folder``.

    Returns:
        Changes of the recipe.
    """
    if row.start == "scratch":
        return ()
    init = {
        SECTIONS[name]: {"run": str(arguments.folder / trial.name), "head": row.start == "heads"}
        for name, trial in alone.items()
    }
    return (f"init={json.dumps(init)}",)


def show(lines: Mapping[Row, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out the figures.

    Args:
        lines: Of every run, by row.

    Returns:
        A table of Markdown.
    """
    found = [
        [row.title, f"{row.batches:,}", *(cell(spread(own, figure)) for figure in COLUMNS)]
        for row, own in lines.items()
    ]
    return table(["start", "batches in all", *COLUMNS.values()], found)


def differences(lines: Mapping[Row, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out what runs from encoders have over runs from scratch, seed by seed.

    Args:
        lines: Of every run, by row, in the order of seeds.

    Returns:
        A table of Markdown: a line with as many joint steps, and one with as many batches.
    """
    found = []
    for row, own in lines.items():
        for base in (Row("scratch", n, n) for n in (row.steps, row.batches)):
            if row.start == "scratch":
                continue
            paired = list(zip(own, lines[base], strict=True))
            gains = [
                {
                    "figures": {
                        name: mine["figures"][name] - other["figures"][name] for name in COLUMNS
                    }
                }
                for mine, other in paired
            ]
            cells = [cell(spread(gains, figure)) for figure in COLUMNS]
            found.append([f"{row.title}, less {base.title}", *cells])
    return table(["difference", *COLUMNS.values()], found)


if __name__ == "__main__":
    raise SystemExit(main())
