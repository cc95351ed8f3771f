"""What pretraining is worth on ``shapes``: heads fine-tuned from the demo run and from scratch.

    python -m tests.benchmarks.bench.finetune --demo runs/demo --steps 10,30,100,300 --seeds 3

Both start from the same recipe and seed, so from the same head, and make the same number of steps;
``init`` is all that differs. Every number of steps is a training of its own, with its own schedule.
The figure is read off pictures of seen combinations; ``unseen`` beside it is of the others.

Runs and figures stay in ``--folder``, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.bench.shapes_runs import flava, keep, kept, table

FIGURES = {
    "classify": "answers.accuracy",
    "colors": "answers.accuracy",
    "yes_no": "answers.accuracy",
    "questions": "answers.accuracy",
    "entailment": "answers.accuracy",
    "retrieval": "retrieval.image_to_text_r1",
}
"""Figure by kind, of the recipe ``finetune/shapes_KIND`` but for ``questions``."""

ALL_QUESTIONS = [
    f"{place}.dataset.kind=null"
    for place in ("data.sources.train", "evaluate.tasks.answers", "evaluate.tasks.unseen")
]
"""Makes of ``shapes_colors`` the open questions of all kinds: colour, shape, count, yes or no."""

WANTED = {"colors": 0.30, "classify": 0.15, "entailment": 0.10}
"""By how much the pretrained one has to be better at some number of steps, and by two standard
errors; the other kinds are reported."""


def measured(kind: str, steps: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a head from the demo run and from scratch, and measure both.

    Args:
        kind: A key of ``FIGURES``.
        steps: Optimiser steps of each.
        seed: Of both.
        arguments: With ``demo``, ``folder`` and ``split``.

    Returns:
        A line: the figure of the tuned and of the fresh one, and both on unseen combinations where
        the recipe has a task for them.
    """
    name = f"{kind}-{steps}-{seed}-{arguments.split}"
    line = kept(arguments.folder, name)
    if line is not None:
        return line
    tuned, fresh = (arguments.folder / f"{name}-{start}" for start in ("tuned", "scratch"))
    changes = [f"seed={seed}", f"steps={steps}", "checkpoint.keep=1", "metrics.tensorboard=false"]
    recipe = f"finetune/shapes_{kind}"
    if kind == "questions":
        recipe, changes = "finetune/shapes_colors", [*changes, *ALL_QUESTIONS]
    starts = (
        (tuned, recipe, f"init={{run: '{arguments.demo.resolve()}'}}"),
        # the whole recipe that the other has written, whose model came from the demo
        (fresh, str(tuned / "recipe.yaml"), "init=null"),
    )
    line = {"kind": kind, "steps": steps, "seed": seed}
    for run_dir, start_from, init in starts:
        shutil.rmtree(run_dir, ignore_errors=True)
        flava("train", start_from, f"run_dir={run_dir}", init, *changes)
        flava("eval", str(run_dir), "--no-report", "--split", arguments.split)
        results = json.loads((run_dir / "results.json").read_text())
        task, figure = FIGURES[kind].split(".")
        start = run_dir.name.rpartition("-")[2]
        line[start] = results[task][figure]
        if "unseen" in results:
            line[f"{start}_unseen"] = results["unseen"][figure]
    return keep(arguments.folder, name, line)


def gain(lines: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean gain of the tuned runs over the fresh ones of the same seed, and its standard error.

    Args:
        lines: Of several seeds.

    Returns:
        Both; the error is NaN with one seed.
    """
    gains = [line["tuned"] - line["scratch"] for line in lines]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    return statistics.fmean(gains), error


def main() -> int:
    """Measure every kind at every number of steps, and print a table.

    Returns:
        0, or 1 where a gain that is wanted is not held at any number of steps.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--steps", default="10,30,100,300")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--kinds", default=",".join(FIGURES))
    parser.add_argument("--split", default="publish", help="that is measured on")
    parser.add_argument("--folder", type=Path, default=Path("runs/finetune"))
    arguments = parser.parse_args()
    if not (arguments.demo / "recipe.yaml").is_file():
        flava("train", "pretrain/shapes", f"run_dir={arguments.demo}")
    kinds, rows, held = arguments.kinds.split(","), [], set()
    for kind in kinds:
        for steps in map(int, arguments.steps.split(",")):
            lines = [measured(kind, steps, seed, arguments) for seed in range(arguments.seeds)]
            mean, error = gain(lines)
            if mean >= WANTED.get(kind, 0.0) and mean >= 2 * error:
                held.add(kind)
            cells = [
                " ".join(f"{line[key]:.3f}" for line in lines) if key in lines[0] else "-"
                for key in ("tuned", "scratch", "tuned_unseen", "scratch_unseen")
            ]
            rows.append([kind, str(steps), *cells, f"{mean:+.3f} ± {error:.3f}"])
    head = ["kind", "steps", "tuned", "scratch", "tuned, unseen", "scratch, unseen", "gain"]
    missed = [kind for kind in kinds if kind in WANTED and kind not in held]
    sys.stdout.write(f"{table(head, rows)}\n\nmissed: {', '.join(missed) or 'none'}\n")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
