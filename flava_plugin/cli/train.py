"""``flava train``: run a recipe here, under python, torchrun or srun."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    train = commands.add_parser(
        "train",
        help="train a recipe; started again, it goes on from the newest checkpoint",
        description="Train a recipe on this machine, or on each process of torchrun or srun. "
        "Started again with the same run_dir, it goes on from the newest checkpoint.",
    )
    train.add_argument("recipe", help="a built-in recipe, a YAML file, or RUN_DIR/recipe.yaml")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    train.set_defaults(run=run_train)


def run_train(arguments: argparse.Namespace) -> int:
    """Check the recipe, then train it.

    Args:
        arguments: Has ``recipe`` and ``overrides``.

    Returns:
        0 done, 1 failed, 130 after Ctrl-C and 143 after SIGTERM, the run being saved.

    Raises:
        RecipeError: The recipe is refused, or the run folder holds another one's checkpoint.
    """
    from flava_plugin.cli.leaving import run_to_code
    from flava_plugin.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    logging.basicConfig(
        format="%(message)s" if rank == 0 else f"rank {rank}: %(message)s",
        level=logging.INFO if rank == 0 else logging.WARNING,
        stream=sys.stderr,
    )

    from flava_plugin.train.loop import train

    return run_to_code(lambda: train(recipe))
