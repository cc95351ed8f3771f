"""``flava profile``: where a training step goes, measured on a few real ones."""

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
        "profile",
        help="where a training step goes: data, codebook, encoders, losses, optimiser",
        description="Run a few steps of a recipe, data loader included, and print where each kind "
        "of step goes. The run folder is neither read nor written.",
    )
    parser.add_argument("recipe", help="a built-in recipe or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    parser.add_argument(
        "--steps", type=_whole, default=10, help="steps of each kind that count (%(default)s)"
    )
    parser.add_argument("--kind", choices=["image", "text", "pair"], help="only this kind of step")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write a trace for Chrome or Perfetto (.json)"
    )
    parser.set_defaults(run=run_profile)


def _whole(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return number


def run_profile(arguments: argparse.Namespace) -> int:
    """Profile a recipe and print it.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 the steps failed.

    Raises:
        RecipeError: The recipe is refused, or its parts do not fit together.
    """
    from flava_plugin.recipe import RecipeError, load_recipe

    trace = arguments.trace
    if trace is not None and not trace.resolve().parent.is_dir():
        raise RecipeError([f"--trace {trace}: no such folder; make it first"])
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
        if trace is not None:
            print(f"\nwrote {trace}")
    return 0
