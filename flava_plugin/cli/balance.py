"""``flava balance``: how the objectives of a run disturb or starve one another, and what they gain.

Of a run folder it is a diagnosis of gradients; of a recipe a report, for which runs are trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

OF_A_RUN = {"checkpoint": "--checkpoint", "parts": "--parts"}
OF_A_RECIPE = {
    "seeds": "--seeds",
    "also": "--also",
    "split": "--split",
    "folder": "--folder",
    "dry_run": "--dry-run",
}
"""Flags that say something of one of both only."""


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "balance",
        help="which objectives of a run are starved; what a joint recipe's tasks gain and lose",
        description="Of a RUN: measure the gradient of each objective on a fixed batch of each "
        "kind, at every checkpoint the run has kept, and say what stands out. Goes to "
        "balance.jsonl, which report.html draws; balance.diagnose.every=N does the same while "
        "training. Of a RECIPE: train it, and each kind of batch alone for as many steps as the "
        "joint run gives to it, measure all on the recipe's tasks, and say what each task gains or "
        "loses and which weights and shares the gradients speak for. Started again, it goes on. "
        "Processes that torchrun or srun started share the work.",
    )
    parser.add_argument("target", metavar="RUN|RECIPE", help="folder of a training, or a recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    run = parser.add_argument_group("of a run")
    run.add_argument(
        "--checkpoint",
        metavar="WHICH",
        help="kept (all there are, the default), latest, best or a number of steps",
    )
    run.add_argument(
        "--parts",
        action="store_true",
        default=None,
        help="print layer by layer, not by encoder only",
    )
    report = parser.add_argument_group("of a recipe")
    report.add_argument(
        "--seeds", type=int, help="how many, from the recipe's own on; by default 3"
    )
    report.add_argument(
        "--also",
        metavar="A,B",
        help="more rows: unit (joint, all weights 1), total (each kind alone for all the steps)",
    )
    report.add_argument("--split", help="that tasks are measured on; the recipe's by default")
    report.add_argument(
        "--folder", type=Path, help="of runs and report; by default runs/balance/RECIPE"
    )
    report.add_argument(
        "--dry-run", action="store_true", default=None, help="print the runs, train none"
    )
    parser.set_defaults(run=run_balance)


def run_balance(arguments: argparse.Namespace) -> int:
    """Diagnose a run, or report on a recipe.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 the data could not be read or a run failed, 130 and 143 stopped by a signal.

    Raises:
        RecipeError: There is no such run or checkpoint, or a recipe is refused.
    """
    from flava_plugin.recipe import RecipeError

    run = Path(arguments.target).is_dir()
    given = OF_A_RECIPE if run else OF_A_RUN
    idle = [f for n, f in given.items() if getattr(arguments, n) is not None]
    if idle:
        what, way = (
            ("a run folder", "a recipe") if run else ("no run folder", "the folder of a run")
        )
        raise RecipeError([f"{', '.join(idle)}: {arguments.target} is {what}; give {way} for that"])
    if run:
        return _diagnose(arguments)
    from flava_plugin.cli.balance_report import report_recipe

    return report_recipe(arguments)


def _diagnose(arguments: argparse.Namespace) -> int:
    from flava_plugin.cli.balance_run import diagnose_run
    from flava_plugin.data.reading import UnreadableDataError
    from flava_plugin.evaluate.balance_table import balance_text
    from flava_plugin.recipe import RecipeError

    try:
        records = diagnose_run(
            Path(arguments.target), arguments.checkpoint or "kept", arguments.overrides
        )
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(str(error).splitlines()) from error
    except (OSError, UnreadableDataError) as error:
        print(f"flava balance: {error}", file=sys.stderr)
        return 1
    if records:
        print(balance_text(records, parts=bool(arguments.parts)))
    return 0
