"""The balance report of a recipe: its runs, the table of what tasks gain, and a recommendation."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from flava_plugin.launch.balance_study import Study
from flava_plugin.recipe import Recipe

SEEDS = 3
"""The fewest from which a standard error says anything."""


def report_recipe(arguments: argparse.Namespace) -> int:
    """Train and measure what is missing, and print and write the report.

    Args:
        arguments: Of ``flava balance``.

    Returns:
        The exit code.

    Raises:
        RecipeError: A recipe is refused, or a folder holds another one's run.
    """
    from flava_plugin.cli.leaving import run_to_code
    from flava_plugin.launch.balance_study import plan_study

    label = Path(arguments.target).with_suffix("").as_posix().lstrip("./").replace("/", "_")
    folder = arguments.folder or Path("runs/balance") / label
    also = tuple(arguments.also.split(",")) if arguments.also else ()
    seeds = SEEDS if arguments.seeds is None else arguments.seeds
    study = plan_study(arguments.target, arguments.overrides, _shares, folder, seeds, also)
    split = arguments.split or study.joint.evaluate.split
    if arguments.dry_run:
        _list(study, split)
        return 0
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    logging.basicConfig(
        format="%(message)s" if rank == 0 else f"rank {rank}: %(message)s",
        level=logging.INFO if rank == 0 else logging.WARNING,
        stream=sys.stderr,
    )
    return run_to_code(lambda: _run(study, split, folder, first_rank=rank == 0))


def _shares(recipe: Recipe) -> dict[str, float]:
    """Shares of steps by source; what had to be assumed of them is said."""
    from flava_plugin.plan.shares import mean_shares

    shares, assumed = mean_shares(recipe)
    for line in assumed:
        print(f"flava balance: steps of each kind go by {line}", file=sys.stderr)
    return shares


def _list(study: Study, split: str | None) -> None:
    """Print what would be trained."""
    from flava_plugin.launch.balance_study import measured

    steps = sum(run.recipe.steps for run in study.runs)
    print(f"{len(study.runs)} runs, {steps} steps in all")
    for run in study.runs:
        state = "measured" if measured(run, split) else f"{run.recipe.steps} steps"
        print(f"# {run.row}, seed {run.recipe.seed}: {state}\n{run.command}")


def _run(study: Study, split: str | None, folder: Path, *, first_rank: bool) -> None:
    from flava_plugin import durable
    from flava_plugin.launch.balance_study import measure, measured
    from flava_plugin.launch.balance_study_text import study_text

    folder.mkdir(parents=True, exist_ok=True)
    # every rank decides before the first run is measured, so that all decide the same
    for run in [run for run in study.runs if measured(run, split) is None]:
        measure(run, split)
    if first_rank:
        text = study_text(study, split)
        durable.write_text(folder / "balance.md", text + "\n")
        print(f"{text}\n\nwrote {folder / 'balance.md'}")
