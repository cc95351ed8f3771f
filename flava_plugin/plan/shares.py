"""The sources' shares of the steps of a whole run, under any mixture strategy."""

from __future__ import annotations

from functools import partial

from flava_plugin.data.mixture_run import open_mixture
from flava_plugin.recipe import Recipe
from flava_plugin.recipe_mixture import facts_of, open_sources


def mean_shares(recipe: Recipe) -> tuple[dict[str, float], list[str]]:
    """Work out the sources' shares of the steps of a whole run.

    Args:
        recipe: The recipe.

    Returns:
        Shares by source, which add up to 1, and lines that say what was assumed: even shares where
        they go by sizes and the data is not here, the first ones where they follow the losses.
    """
    strategy = recipe.mixture.strategy
    if strategy.type == "fixed":  # to the last digit what the recipe says
        given = {name: source.share or 0.0 for name, source in recipe.data.sources.items()}
        return {name: share / sum(given.values()) for name, share in given.items()}, []
    facts, assumed = facts_of(recipe, partial(open_sources, recipe)), []
    try:
        mixture = open_mixture(strategy, facts, recipe.seed)
    except ValueError as error:
        even = 1 / len(recipe.data.sources)
        why = str(error).splitlines()[0]
        return dict.fromkeys(recipe.data.sources, even), [f"even shares of the sources: {why}"]
    shares = {
        name: mixture.steps_of(name, recipe.steps) / recipe.steps for name in recipe.data.sources
    }
    if mixture.adaptive:
        assumed.append(f"mixture.strategy {strategy.type}: the first shares, which losses change")
    return shares, assumed
