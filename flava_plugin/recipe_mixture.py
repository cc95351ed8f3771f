"""What a recipe's mixture strategy may build on, and whether it can do with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flava_plugin.mixture_types import Facts, UnknownSizesError, no_sizes
from flava_plugin.registry import datasets, mixtures

if TYPE_CHECKING:
    from flava_plugin.recipe import Recipe


def facts_of(recipe: Recipe, opened: Callable[[], Mapping[str, Any]] | None = None) -> Facts:
    """Collect what a mixture strategy may build on.

    Args:
        recipe: A recipe without errors of form.
        opened: Opens the sources, should their samples have to be counted; None where nobody may
            look at data.

    Returns:
        The facts.
    """
    sources, strategy = recipe.data.sources, recipe.mixture.strategy.type
    return Facts(
        strategy=strategy,
        shares={name: source.share for name, source in sources.items()},
        steps=recipe.steps,
        global_batch=recipe.data.global_batch,
        objectives={
            name: tuple(
                objective
                for objective, section in recipe.objectives.items()
                if section.modality == source.modality
            )
            for name, source in sources.items()
        },
        sizes=no_sizes if opened is None else lambda: sizes_of(opened(), strategy),
    )


def open_sources(recipe: Recipe) -> dict[str, Any]:
    """Open every source.

    Args:
        recipe: A recipe without errors of form.

    Returns:
        Datasets by source, or why one cannot be opened.
    """
    opened: dict[str, Any] = {}
    for name, source in recipe.data.sources.items():
        try:
            opened[name] = datasets.build(source.dataset.type, **source.dataset.options)
        except (ValueError, OSError) as error:
            opened[name] = error
    return opened


def sizes_of(opened: Mapping[str, Any], strategy: str) -> Mapping[str, int]:
    """Count the samples of sources.

    Args:
        opened: Datasets by source, or why one cannot be opened.
        strategy: What needs to know, for the message.

    Returns:
        Samples by source.

    Raises:
        ValueError: Some have no known length; a line for each.
    """
    sizes: dict[str, int] = {}
    errors = []
    for name, dataset in opened.items():
        why = str(dataset)
        try:
            sizes[name] = len(dataset)
        except TypeError:
            if not isinstance(dataset, Exception):
                why = f"{type(dataset).__name__} has no __len__"
        if sizes.get(name) == 0:
            why = "it holds no sample"
        if not sizes.get(name):
            errors.append(
                f"data.sources.{name}.dataset: mixture.strategy {strategy} goes by the number of "
                f"samples, and it is not known: {why}; take mixture.strategy fixed with a share "
                "for each source, or another dataset"
            )
    if errors:
        raise ValueError("\n".join(errors))
    return sizes


def mixture_errors(recipe: Recipe, *, check_files: bool) -> Iterator[str]:
    """Find shares that are missing, not read or impossible.

    Args:
        recipe: A recipe without errors of form.
        check_files: Whether data may be opened, to count it.

    Yields:
        str: A line for each error.
    """
    strategy = recipe.mixture.strategy
    if strategy.type not in mixtures.names():
        return  # has its own line
    opened = partial(open_sources, recipe) if check_files else None
    try:
        made = mixtures.build(strategy.type, facts_of(recipe, opened), **strategy.options)
    except (ValidationError, UnknownSizesError):
        return  # options of the wrong form have their own lines
    except ValueError as error:
        yield from str(error).splitlines()
        return
    for name in recipe.data.sources:
        if isinstance(made, list) and not any(segment.shares[name] for segment in made):
            yield (
                f"data.sources.{name}: mixture.strategy {strategy.type} never reads it; give it a "
                f"share, or remove it with data.sources.{name}=null"
            )
