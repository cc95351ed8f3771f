"""Every mixture and weight strategy on ``pretrain/shapes`` against fixed shares and unit weights.

    python -m tests.benchmarks.bench.strategies --steps 1000 --seeds 3

All start from unit weights but the last row, the recipe's own, which were set by hand. Every run
reads as many batches: an accumulated step is one of each kind, so that there are a third of them.
``mean`` is over the figures beside it, retrieval counted once; a difference is paired by seed.

Runs and figures stay in ``--folder``, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.bench.shapes_runs import (
    RECIPES,
    Trial,
    cell,
    measured,
    options,
    spread,
    table,
    tasks_of,
)

UNIT = ("objectives.itm.weight=1", "objectives.contrastive.weight=1")

EVEN = tuple(f"data.sources.{name}.share=null" for name in ("pairs", "images", "sentences"))
"""Some mixtures take sizes or phases in place of shares."""

PHASES = {
    "alone": {"first": 0, "shares": {"pairs": 0.2, "images": 0.4, "sentences": 0.4}},
    "together": {"first": 0.3, "shares": {"pairs": 0.9, "images": 0.05, "sentences": 0.05}},
}
"""Unimodal first, as the paper's initialisation; ``first`` is a part of the run here."""

LATE = {"pairs": 0.4, "images": 0.3, "sentences": 0.3}
"""Where the cooldown leads: the masked losses get more at the end."""

SURGEONS = ("PCGrad", "UPGrad", "MGDA")
"""Weightings that need no solver besides the extra's."""

FIGURES = {
    "masked.mim": "MIM",
    "masked.mlm": "MLM",
    "masked.patches": "MMM patches",
    "masked.words": "MMM words",
    "retrieval": "R@1, both ways",
    "zero_shot.unseen_combinations": "zero-shot",
    "itm.accuracy": "ITM",
}
"""Figures of the mean, and how the table calls them."""


class Setting(NamedTuple):
    """A row of the table.

    Attributes:
        changes: Of the recipe.
        batches: Batches of an optimiser step.
    """

    changes: tuple[str, ...]
    batches: int = 1


def settings(steps: int) -> dict[str, Setting]:
    """List what is compared.

    Args:
        steps: Batches of a run.

    Returns:
        By name; the first is what all others are held against.
    """
    phases = {
        name: {**phase, "first": round(phase["first"] * steps)} for name, phase in PHASES.items()
    }
    found = {"fixed": Setting(UNIT)}
    mixtures: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "temperature": ({}, EVEN),
        "unimax": ({}, EVEN),
        "cooldown": ({"shares": LATE}, ()),
        "curriculum": ({"phases": phases}, EVEN),
        "need": ({"every": max(20, steps // 20)}, ()),
    }
    for name, (given, more) in mixtures.items():
        spec = json.dumps({"type": name, **given})
        found[name] = Setting((*UNIT, f"mixture.strategy={spec}", *more))
    weights: dict[str, dict[str, Any]] = {
        "gradient_norm": {"every": max(20, steps // 20)},
        "ema": {},
        "uncertainty": {},
        "famo": {},
    }
    for name, given in weights.items():
        found[name] = Setting((*UNIT, f"balance.strategy={json.dumps({'type': name, **given})}"))
    together = (*UNIT, "balance.step=accumulated")
    found["accumulated"] = Setting(together, 3)
    for name in SURGEONS:
        spec = json.dumps({"type": "surgery", "weighting": name})
        found[f"surgery {name}"] = Setting((*together, f"balance.strategy={spec}"), 3)
    found["by hand"] = Setting(())
    return found


def main() -> int:
    """Train and measure every setting, and print the table.

    Returns:
        0.
    """
    parser = options(__doc__, 1000)
    parser.add_argument("--folder", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--only", help="names, with commas between them")
    arguments = parser.parse_args()
    tasks = [task for task in tasks_of(RECIPES["flava"]) if ".questions=" not in task]
    chosen = settings(arguments.steps)
    names = arguments.only.split(",") if arguments.only else list(chosen)
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in range(arguments.seeds):
        for name in names:
            one = chosen[name]
            changes = (*one.changes, "evaluate.tasks.questions=null")
            steps = max(1, arguments.steps // one.batches)
            trial = Trial("flava", seed, steps, name.replace(" ", "_"), changes)
            lines[name].append(with_means(measured(trial, arguments, tasks)))
    sys.stdout.write(f"{show(lines)}\n")
    return 0


def with_means(line: dict[str, Any]) -> dict[str, Any]:
    """Add both ways of retrieval as one figure, and the mean of all.

    Args:
        line: Of a run.

    Returns:
        The same with ``retrieval`` and ``mean`` among its figures.
    """
    figures = dict(line["figures"])
    ways = [figures[f"retrieval.{way}_r1"] for way in ("image_to_text", "text_to_image")]
    figures["retrieval"] = sum(ways) / 2
    figures["mean"] = sum(figures[name] for name in FIGURES) / len(FIGURES)
    return {**line, "figures": figures}


def show(lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out the table.

    Args:
        lines: Of every run, by setting; the first is what others are held against.

    Returns:
        A table of Markdown.
    """
    base = next(iter(lines.values()))
    rows = []
    for name, own in lines.items():
        cells = [cell(spread(own, figure)) for figure in (*FIGURES, "mean")]
        gains = [
            {"figures": {"gain": mine["figures"]["mean"] - other["figures"]["mean"]}}
            for mine, other in zip(own, base, strict=True)
        ]
        rows.append([name, *cells, cell(spread(gains, "gain"))])
    return table(["strategy", *FIGURES.values(), "mean", f"less {next(iter(lines))}"], rows)


if __name__ == "__main__":
    raise SystemExit(main())
