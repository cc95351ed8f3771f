"""``flava profile``: where a training step goes, measured on a few real ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from flava_plugin.cli.amounts import whole


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "profile",
        help="where a training step goes: data, codebook, encoders, losses, optimiser",
        description="Run a few steps of a recipe, data loader included, and print where each kind "
        "of step goes. run_dir is ignored: no run folder is read or written.",
    )
    parser.add_argument("recipe", help="a built-in recipe or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    parser.add_argument(
        "--steps", type=whole, default=10, help="steps of each kind that count (%(default)s)"
    )
    parser.add_argument("--kind", choices=["image", "text", "pair"], help="only this kind of step")
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write a trace for Chrome or Perfetto to a new file (.json)",
    )
    parser.set_defaults(run=run_profile)


def run_profile(arguments: argparse.Namespace) -> int:
    """Profile a recipe and print it.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 the steps failed.

    Raises:
        RecipeError: The recipe or the trace's file is refused, or the recipe's parts do not fit
            together.
    """
    from flava_plugin.recipe import RecipeError, load_recipe

    trace = arguments.trace
    if trace is not None and (problem := _refused(trace)):
        raise RecipeError([f"--trace {trace}: {problem}"])
    recipe = load_recipe(arguments.recipe, [*arguments.overrides, "run_dir=."])

    from flava_plugin.data.reading import UnreadableDataError
    from flava_plugin.plan.profile import profile, text

    try:
        found = profile(recipe, steps=arguments.steps, kind=arguments.kind, trace=trace)
    except RecipeError:
        raise
    except ValueError as error:  # what only the built parts can refuse
        raise RecipeError(str(error).splitlines()) from error
    except (OSError, UnreadableDataError) as error:
        print(f"flava profile: {error}", file=sys.stderr)
        return 1
    if found.rank == 0:
        print(text(found))
        if recipe.balance.step == "accumulated":
            print("\nbalance.step accumulated: a step of the run takes one of each kind together")
        if trace is not None:
            print(f"\nwrote {trace}")
    return 0


def _refused(trace: Path) -> str:
    """Why a trace cannot go there; empty where it can."""
    if trace.is_dir():
        return "is a folder; name a new file in it, such as trace.json"
    if trace.suffix != ".json":
        return "a trace is a .json file; name one"
    if trace.exists() or trace.is_symlink():
        return "is there already; name a new file, or remove it first"
    return "" if trace.resolve().parent.is_dir() else "no such folder; make it first"
