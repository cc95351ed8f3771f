"""``flava eval``: measure a run, write ``results.json`` and ``report.html``, print the table."""

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
    parser.add_argument("--tasks", metavar="A,B", help="only these tasks of the recipe")
    parser.add_argument("--no-report", action="store_true", help="write results.json only")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    parser.set_defaults(run=run_eval)


def run_eval(arguments: argparse.Namespace) -> int:
    """Evaluate a run.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        The exit code.

    Raises:
        RecipeError: The run's recipe or an override is refused.
    """
    from flava_plugin.evaluate.run import evaluate_run
    from flava_plugin.evaluate.table import text_table
    from flava_plugin.recipe import RecipeError

    only = [name.strip() for name in arguments.tasks.split(",")] if arguments.tasks else None
    try:
        results = evaluate_run(
            arguments.run_dir,
            split=arguments.split,
            checkpoint=arguments.checkpoint,
            only=only,
            overrides=arguments.overrides,
            report=not arguments.no_report,
        )
    except RecipeError:
        raise
    except ValueError as refused:  # no such run, checkpoint or task, or they do not fit
        print(f"flava eval: {refused}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"flava eval: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("flava eval: stopped; earlier results are untouched", file=sys.stderr)
        return 130
    written = "results.json" if arguments.no_report else "results.json and report.html"
    print(f"wrote {written} in {arguments.run_dir}\n")
    print(text_table(results))
    return 0
