"""``flava data codes``: the codebook's targets of a source, computed before the run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from flava_plugin.cli.amounts import budget, whole
from flava_plugin.cli.progress import add_progress, bar


def add_action(actions: Any) -> None:
    """Add the action to the parser of ``flava data``.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` returned.
    """
    codes = actions.add_parser(
        "codes",
        help="compute the codebook's targets of a source",
        description="Run a recipe's codebook over one of its sources once. The folder is for "
        "data.sources.NAME.codes; started again, it goes on where it was. Refused where the recipe "
        "crops at random, since every epoch would need other targets.",
    )
    codes.add_argument("recipe", help="a built-in recipe or a YAML file")
    codes.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    codes.add_argument("--source", required=True, help="name of the source in the recipe")
    codes.add_argument("--out", type=Path, required=True, help="folder to write")
    codes.add_argument("--rows", type=whole, default=64, help="pictures at a time (%(default)s)")
    codes.add_argument(
        "--budget",
        type=budget,
        default="0",
        metavar="N|SHARE",
        help="pictures that may be unreadable (%(default)s)",
    )
    add_progress(codes)
    codes.set_defaults(run=run_codes)


def run_codes(arguments: argparse.Namespace) -> int:
    """Compute the codes of a source.

    Args:
        arguments: As ``add_action`` declares them.

    Returns:
        0 done, 1 more pictures cannot be read than allowed, 2 the command line is refused.

    Raises:
        RecipeError: The recipe is refused.
    """
    from flava_plugin.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    source = recipe.data.sources.get(arguments.source)
    book = recipe.model.codebook
    if source is None or source.modality == "text" or book is None:
        said = {
            True: f"--source {arguments.source}: the recipe has {', '.join(recipe.data.sources)}",
            False: f"--source {arguments.source}: holds no pictures, or the recipe no codebook",
        }[source is None]
        print(f"flava data codes: {said}", file=sys.stderr)
        return 2
    import torch

    from flava_plugin import registry
    from flava_plugin.data.compute_codes import compute_codes
    from flava_plugin.data.damage import StoreError

    gpu = recipe.device != "cpu" and torch.cuda.is_available()
    try:
        dataset = registry.datasets.build(source.dataset.type, **source.dataset.options)
        with bar(len(dataset), "picture", arguments) as shown:
            faults = compute_codes(
                dataset,
                source.modality,
                recipe.data.image,
                registry.codebooks.build(book.type, **book.options),
                arguments.out,
                rows=arguments.rows,
                device=torch.device("cuda" if gpu else "cpu"),
                progress=shown.update,
            )
    except ValueError as error:
        print(f"flava data codes: {error}", file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"flava data codes: {error}; what is computed is kept", file=sys.stderr)
        return 1
    for reason, number in sorted(faults.items()):
        print(f"{number} x {reason}: without codes", file=sys.stderr)
    print(f"{arguments.out}: codes of {len(dataset) - faults.total():,} pictures")
    return int(faults.total() > arguments.budget.allowed(len(dataset)))
