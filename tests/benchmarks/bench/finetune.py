"""What pretraining is worth on ``shapes``: heads fine-tuned from the demo run and from scratch.

    python -m tests.benchmarks.bench.finetune --steps 300 --seeds 3

Both start from the same recipe and seed, so from the same head, and make the same number of steps;
``init`` is all that differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

KINDS = ("shapes_classify", "shapes_colors", "shapes_yes_no", "shapes_entailment")
WANTED = {"shapes_colors": 0.30, "shapes_classify": 0.15, "shapes_entailment": 0.10}
"""By how much the pretrained one has to be better, and by two standard errors."""


def flava(*words: str) -> None:
    """Run a command of ours.

    Args:
        *words: What follows ``flava``.
    """
    subprocess.run([sys.executable, "-m", "flava_plugin", *words], check=True, capture_output=True)


def accuracy(kind: str, seed: int, steps: int, *, demo: Path | None, folder: Path) -> float:
    """Train and measure one head.

    Args:
        kind: Name of a recipe in ``recipes/finetune``.
        seed: Of the run.
        steps: Optimiser steps.
        demo: The run whose backbone it starts from; None for scratch.
        folder: Where its run lies.

    Returns:
        The share of right answers in the split ``dev``.
    """
    run_dir = folder / f"{kind}-{seed}-{'tuned' if demo else 'scratch'}"
    shutil.rmtree(run_dir, ignore_errors=True)
    init = f"init={{run: '{demo}'}}" if demo else "init=null"
    changes = (f"run_dir={run_dir}", f"seed={seed}", f"steps={steps}", init, "checkpoint.keep=1")
    flava("train", f"finetune/{kind}", *changes, "metrics.tensorboard=false")
    flava("eval", str(run_dir), "--no-report")
    results = json.loads((run_dir / "results.json").read_text())
    return float(results["answers"]["accuracy"])


def main() -> None:
    """Measure every kind and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--folder", type=Path, default=Path("runs/finetune"))
    arguments = parser.parse_args()
    if not (arguments.demo / "recipe.yaml").is_file():
        flava("train", "pretrain/shapes", f"run_dir={arguments.demo}")
    for kind in arguments.kinds.split(","):
        pairs = []
        for seed in range(arguments.seeds):
            places = (arguments.demo, None)
            pairs.append(
                [
                    accuracy(kind, seed, arguments.steps, demo=demo, folder=arguments.folder)
                    for demo in places
                ]
            )
        gains = [tuned - scratch for tuned, scratch in pairs]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        gain = statistics.fmean(gains)
        row = {
            "kind": kind,
            "steps": arguments.steps,
            "tuned": [round(tuned, 4) for tuned, _ in pairs],
            "scratch": [round(scratch, 4) for _, scratch in pairs],
            "gain": round(gain, 4),
            "standard_error": round(error, 4),
        }
        if kind in WANTED:
            row["held"] = gain >= WANTED[kind] and gain >= 2 * error
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
