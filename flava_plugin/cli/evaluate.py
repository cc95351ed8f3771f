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
    parser.add_argument(
        "--weights",
        default="auto",
        choices=("auto", "ema", "raw"),
        help="the average of the weights (optim.ema) or the trained ones; auto: ema if there is",
    )
    parser.add_argument("--tasks", metavar="A,B", help="only these tasks, or all")
    parser.add_argument("--data", type=Path, metavar="ROOT",
                        help="measure the paper's tasks whose sets lie in this folder")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="the paper's tasks: measure anew")
    parser.add_argument("--with", dest="finetuned", action="append", metavar="TASK=RUN", default=[],
                        help="the paper's table: figures of a fine-tuned run")  # fmt: skip
    parser.add_argument("--compare", type=Path, metavar="RUN2", help="print what RUN has over RUN2")
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
    from flava_plugin.recipe import RecipeError

    try:
        _measure(arguments)
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
    return 0


def _measure(arguments: argparse.Namespace) -> None:
    """Measure the recipe's tasks and the paper's, and print a table of each."""
    from flava_plugin.evaluate.compare import comparison
    from flava_plugin.evaluate.finetuned_runs import parse_runs, with_runs
    from flava_plugin.evaluate.paper_run import PAPER_RESULTS, evaluate_paper, paper_table
    from flava_plugin.evaluate.paper_tasks import TASKS
    from flava_plugin.evaluate.run import evaluate_run
    from flava_plugin.evaluate.table import text_table

    run_dir: Path = arguments.run_dir
    runs = parse_runs(arguments.finetuned)
    if runs and arguments.data is None:
        raise ValueError("--with adds to the paper's table; give --data too")
    only = [name.strip() for name in arguments.tasks.split(",")] if arguments.tasks else None
    if only == ["all"]:
        only = None
    paper = None if arguments.data is None or only is None else [n for n in only if n in TASKS]
    own = only if paper is None else [name for name in only or () if name not in TASKS]
    if own or (own is None and (arguments.data is None or _names_tasks(run_dir, arguments))):
        results = evaluate_run(
            run_dir,
            split=arguments.split,
            checkpoint=arguments.checkpoint,
            only=own,
            overrides=arguments.overrides,
            report=not arguments.no_report,
            weights=arguments.weights,
        )
        written = "results.json" if arguments.no_report else "results.json and report.html"
        print(f"wrote {written} in {run_dir}\n")
        print(text_table(results))
    if arguments.data is not None and (paper is None or paper):
        measured = evaluate_paper(
            run_dir,
            arguments.data,
            names=paper,
            checkpoint=arguments.checkpoint,
            again=arguments.again,
            weights=arguments.weights,
        )
        print(f"\nwrote {PAPER_RESULTS} in {run_dir}; figures in per cent\n")
        print(paper_table(with_runs(measured, runs)))
    if arguments.compare is not None:
        print(f"\n{comparison(run_dir, arguments.compare)}")


def _names_tasks(run_dir: Path, arguments: argparse.Namespace) -> bool:
    """Whether the run's recipe has tasks of its own."""
    from flava_plugin.recipe import load_recipe

    path = run_dir / "recipe.yaml"
    if not path.is_file():
        return True  # the evaluation says what is wrong
    return bool(load_recipe(str(path), arguments.overrides, check_files=False).evaluate.tasks)
