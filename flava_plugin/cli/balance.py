"""``flava balance``: how the objectives of a run disturb or starve one another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "balance",
        help="which objectives of a run are starved or in conflict, by encoder",
        description="Measure the gradient of each objective on a fixed batch of each kind, at "
        "every checkpoint a run has kept, and say what stands out. Goes to balance.jsonl, which "
        "report.html draws; balance.diagnose.every=N does the same while training. Processes "
        "that torchrun or srun started share the work.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a training")
    parser.add_argument(
        "--checkpoint",
        default="kept",
        metavar="WHICH",
        help="kept (all there are), latest, best or a number of steps",
    )
    parser.add_argument(
        "--parts", action="store_true", help="print layer by layer, not by encoder only"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes to the run's recipe"
    )
    parser.set_defaults(run=run_balance)


def run_balance(arguments: argparse.Namespace) -> int:
    """Diagnose a run and print the table.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 the data could not be read.

    Raises:
        RecipeError: There is no such run or checkpoint, or its recipe is refused.
    """
    from flava_plugin.cli.balance_run import diagnose_run
    from flava_plugin.data.reading import UnreadableDataError
    from flava_plugin.evaluate.balance_table import balance_text
    from flava_plugin.recipe import RecipeError

    try:
        records = diagnose_run(arguments.run_dir, arguments.checkpoint, arguments.overrides)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(str(error).splitlines()) from error
    except (OSError, UnreadableDataError) as error:
        print(f"flava balance: {error}", file=sys.stderr)
        return 1
    if records:
        print(balance_text(records, parts=arguments.parts))
    return 0
