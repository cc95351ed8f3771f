"""Whether tasks can share a run as the recipe says: its mixture and its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from flava_plugin.balance_types import Objectives
from flava_plugin.recipe_mixture import mixture_errors
from flava_plugin.registry import balances

if TYPE_CHECKING:
    from flava_plugin.recipe import Recipe


def sharing_errors(recipe: Recipe, *, check_files: bool) -> Iterator[str]:
    """Find shares and weights that are impossible, or that nothing would read.

    Args:
        recipe: A recipe without errors of form.
        check_files: Whether data may be opened, to count it.

    Yields:
        str: A line for each error.
    """
    yield from mixture_errors(recipe, check_files=check_files)
    if recipe.balance.step == "accumulated" and recipe.mixture.strategy.type != "fixed":
        yield (
            f"mixture.strategy: {recipe.mixture.strategy.type} chooses between sources, and with "
            "balance.step accumulated every step has a batch of each kind; set mixture.strategy="
            "fixed, whose shares then divide the steps of one kind between its sources"
        )
    strategy = recipe.balance.strategy
    if strategy.type not in balances.names():
        return  # has its own line
    given = Objectives.of(recipe.balance, recipe.objectives, recipe.seed)
    try:
        balances.build(strategy.type, given, **strategy.options)
    except ValidationError:
        return  # options of the wrong form have their own lines
    except ValueError as error:
        yield from str(error).splitlines()
    if strategy.type != "fixed" and not any(given.weights.values()):
        yield (
            f"balance.strategy: {strategy.type} is relative to the objectives' weights, and all "
            "are 0; give one a weight"
        )


def batches_of_step(recipe: Recipe) -> int:
    """Count the global batches of an optimiser step.

    Args:
        recipe: A recipe.

    Returns:
        The number of kinds in an accumulated step, else 1.
    """
    kinds = {source.modality for source in recipe.data.sources.values()}
    return len(kinds) if recipe.balance.step == "accumulated" else 1
