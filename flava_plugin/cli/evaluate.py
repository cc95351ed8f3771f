"""``flava eval``: measure a run, write ``results.json`` and ``report.html``, print the table.

Processes that torchrun or srun started share the work and give the figures of one.
"""

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
    parser = commands.add_parser("eval", help="measure a run; write results.json and report.html")
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a training")
    parser.add_argument("--split", help="split of every task's dataset, such as dev or publish")
    parser.add_argument(
        "--checkpoint", default="latest", metavar="WHICH", help="latest, best or a number of steps"
    )
    parser.add_argument(
        "--weights",
        default="auto",
        choices=("auto", "ema", "raw"),
        help="the average of the weights (optim.ema) or the trained ones; auto: ema if there is",
    )
    parser.add_argument("--tasks", metavar="A,B", help="only these tasks, or all")
    parser.add_argument("--data", metavar="ROOT",
                        help="measure the paper's tasks whose sets lie in this folder")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="the paper's tasks: measure anew")
    parser.add_argument("--with", dest="finetuned", action="append", metavar="TASK=RUN", default=[],
                        help="the paper's table: a fine-tuned run or a FOLDER of them")  # fmt: skip
    parser.add_argument("--compare", metavar="RUN2", help="print what RUN has over RUN2")
    parser.add_argument("--no-report", action="store_true", help="write results.json only")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    parser.set_defaults(run=run_eval)


def run_eval(arguments: argparse.Namespace) -> int:
    """Evaluate a run: by this process, or as each of torchrun's or srun's.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        The exit code.

    Raises:
        RecipeError: The run's recipe or an override is refused.
    """
    from flava_plugin.launch.measuring import Evaluation, task_names
    from flava_plugin.recipe import RecipeError
    from flava_plugin.train.leaving import leave_at_once
    from flava_plugin.train.world import LostRankError

    evaluation = Evaluation(
        run_dir=str(arguments.run_dir),
        split=arguments.split,
        which=arguments.checkpoint,
        tasks=task_names(arguments.tasks),
        overrides=tuple(arguments.overrides),
        report=not arguments.no_report,
        weights=arguments.weights,
        data=arguments.data,
        again=arguments.again,
        finetuned=tuple(arguments.finetuned),
        compare=arguments.compare,
    )
    try:
        evaluation.run()
    except RecipeError:
        raise
    except ValueError as refused:  # no such run, checkpoint or task, or they do not fit
        print(f"flava eval: {refused}", file=sys.stderr)
        return leave_at_once(2)
    except (OSError, LostRankError) as error:
        print(f"flava eval: {error}", file=sys.stderr)
        return leave_at_once(1)
    except KeyboardInterrupt:
        print("flava eval: stopped; earlier results are untouched", file=sys.stderr)
        return leave_at_once(130)
    return leave_at_once()
