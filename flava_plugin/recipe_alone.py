"""A joint recipe taken apart: the runs that a balance report holds against it, as overrides.

What a joint run loses or gains is seen beside runs on one kind of batch alone, each for as many
steps as the joint run gives to that kind. They differ from it in nothing else: model, seed,
weights, learning rate; warm-up is the same part of the run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping

from flava_plugin.recipe import Recipe
from flava_plugin.types import MODALITIES, Modality

DIAGNOSES = 20
"""Diagnoses of a joint run that is to be reported on, where its recipe asks for none."""


def kinds_of(recipe: Recipe) -> list[Modality]:
    """List the kinds of batch that a recipe trains on.

    Args:
        recipe: The recipe.

    Returns:
        Kinds, each with a source and an objective.
    """
    read = {source.modality for source in recipe.data.sources.values()}
    return [kind for kind in MODALITIES if kind in read]


def steps_by_kind(recipe: Recipe, shares: Mapping[str, float]) -> dict[Modality, int]:
    """Count the steps that a joint run gives to each kind.

    Args:
        recipe: The joint recipe.
        shares: Of its steps, by source; they add up to 1.

    Returns:
        Steps by kind; an accumulated step is one of every kind.
    """
    steps: dict[Modality, int] = {}
    for kind in kinds_of(recipe):
        share = sum(shares[n] for n, s in recipe.data.sources.items() if s.modality == kind)
        whole = recipe.balance.step == "accumulated"
        steps[kind] = recipe.steps if whole else max(1, round(share * recipe.steps))
    return steps


def alone(recipe: Recipe, kind: Modality, steps: int, shares: Mapping[str, float]) -> list[str]:
    """Say how a joint recipe becomes a run on one kind of batch.

    Args:
        recipe: The joint recipe.
        kind: What is left.
        steps: Of the run.
        shares: Of the joint run's steps, by source.

    Returns:
        Overrides.
    """
    sources = recipe.data.sources
    mine = [name for name, source in sources.items() if source.modality == kind]
    warmup = round(recipe.optim.warmup_steps * steps / recipe.steps)
    gone = [name for name, one in recipe.objectives.items() if one.modality != kind]
    return [
        f"steps={steps}",
        f"optim.warmup_steps={warmup}",
        *(f"data.sources.{name}=null" for name in sources if name not in mine),
        *(f"data.sources.{name}.share={shares[name]:.6g}" for name in mine),
        *(f"objectives.{name}=null" for name in gone),
        *_without_heads(recipe, gone),
        *_fixed_mixture(recipe),
        *(["balance.diagnose=null"] if recipe.balance.diagnose is not None else []),
    ]


def unit_weights(recipe: Recipe) -> list[str]:
    """Say how a joint recipe gets the weights of the paper, all 1.

    Args:
        recipe: The joint recipe.

    Returns:
        Overrides; none where it has them.
    """
    return weights_of(recipe, dict.fromkeys(recipe.objectives, 1.0))


def weights_of(recipe: Recipe, weights: Mapping[str, float]) -> list[str]:
    """Say how a joint recipe gets fixed weights.

    Args:
        recipe: The joint recipe.
        weights: By objective.

    Returns:
        Overrides; none where it has them.
    """
    found = [
        f"objectives.{name}.weight={weight:g}"
        for name, weight in weights.items()
        if recipe.objectives[name].weight != weight
    ]
    if recipe.balance.strategy.type not in ("fixed", "surgery"):
        found.append("balance.strategy=fixed")
    return found


def shares_of(recipe: Recipe, shares: Mapping[str, float]) -> list[str]:
    """Say how a joint recipe gets fixed shares.

    Args:
        recipe: The joint recipe.
        shares: By source.

    Returns:
        Overrides; none where it has them.
    """
    changed = {
        name: share for name, share in shares.items() if recipe.data.sources[name].share != share
    }
    found = [f"data.sources.{name}.share={share:g}" for name, share in changed.items()]
    return [*found, *_fixed_mixture(recipe)]


def diagnosed(recipe: Recipe) -> list[str]:
    """Say how a joint recipe gets the diagnoses that a recommendation is made of.

    Args:
        recipe: The joint recipe.

    Returns:
        Overrides; none where it asks for diagnoses itself.
    """
    if recipe.balance.diagnose is not None:
        return []
    every = max(1, recipe.steps // DIAGNOSES)
    return [f"balance.diagnose={json.dumps({'every': every})}"]


def _fixed_mixture(recipe: Recipe) -> Iterator[str]:
    if recipe.mixture.strategy.type != "fixed":
        yield "mixture.strategy=fixed"


def _without_heads(recipe: Recipe, gone: Collection[str]) -> list[str]:
    """Leave heads where they are that ``init`` takes for objectives which are no more."""
    init = recipe.init
    parts = {} if init is None else {"image": (init.image, "mim"), "text": (init.text, "mlm")}
    return [
        f"init.{name}.head=false"
        for name, (part, objective) in parts.items()
        if part is not None and part.head and objective in gone
    ]
