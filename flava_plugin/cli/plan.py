"""``flava plan``: what a recipe costs, before it runs and without its data."""

from __future__ import annotations

import argparse
import json
from typing import Any

from flava_plugin.cli.amounts import positive, share, whole
from flava_plugin.plan.options import CODES, WORDS


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "plan",
        help="FLOPs, memory, communication and time of a recipe, before it runs",
        description="Work out a recipe's parameters, FLOPs, memory under every sharding strategy, "
        "communication and time, with all assumptions. No data file has to be there; run_dir is "
        "ignored.",
    )
    parser.add_argument("recipe", help="a built-in recipe or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    parser.add_argument("--gpus", type=whole, default=1, help="ranks of the run (%(default)s)")
    parser.add_argument(
        "--device",
        choices=["h200", "h100", "a100", "cpu"],
        default="h100",
        help="what it runs on; a100 is the card of 80 GB; cpu measures this machine for a few "
        "seconds (%(default)s)",
    )
    parser.add_argument("--gpus-per-node", type=whole, help="ranks of a machine (8; cpu: 1)")
    parser.add_argument("--pair-tokens", type=whole, help="mean tokens of a caption (half of most)")
    parser.add_argument("--text-tokens", type=whole, help="mean tokens of a text (half of most)")
    parser.add_argument("--mfu", type=share, help="share of a GPU's peak that is reached (0.4)")
    parser.add_argument("--link", type=positive, help="GB/s and direction within a node")
    parser.add_argument("--network", type=positive, help="GB/s and direction, GPU to other nodes")
    parser.add_argument("--words", type=whole, default=WORDS, help="vocabulary, if not here")
    parser.add_argument("--codes", type=whole, default=CODES, help="codes, if not here")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_plan)


def run_plan(arguments: argparse.Namespace) -> int:
    """Plan a recipe and print it.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        The exit code.

    Raises:
        RecipeError: The recipe is refused, or its parts do not fit together.
    """
    from flava_plugin.recipe import RecipeError, load_recipe

    # No folder is written to, so that of the recipe may name a variable that is not set.
    changes = [*arguments.overrides, "run_dir=."]
    recipe = load_recipe(arguments.recipe, changes, check_files=False)

    from flava_plugin.plan.fit import even_batch, warnings
    from flava_plugin.plan.options import Options
    from flava_plugin.plan.predict import plan
    from flava_plugin.plan.table import plain, text

    options = Options(
        gpus=arguments.gpus,
        device=arguments.device,
        gpus_per_node=arguments.gpus_per_node,
        pair_tokens=arguments.pair_tokens,
        text_tokens=arguments.text_tokens,
        mfu=arguments.mfu,
        link=arguments.link,
        network=arguments.network,
        words=arguments.words,
        codes=arguments.codes,
    )
    try:
        recipe, warned = even_batch(recipe, options)
        found = plan(recipe, options)
        warned += warnings(found)
    except ValueError as error:
        raise RecipeError(str(error).splitlines()) from error
    if arguments.json:
        print(json.dumps(plain(found, warned), indent=1))
    else:
        print(text(found, warned))
    return 0
