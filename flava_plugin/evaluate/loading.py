"""Reads a trained model: from a run folder, or from a file of weights and a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from flava_plugin import registry
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.model.weights_file import read_safetensors
from flava_plugin.recipe import Recipe, load_recipe
from flava_plugin.train import checkpoint as checkpoints

Loaded = tuple[Learner, Any, Recipe]
"""The learner on the CPU, its tokenizer, and its recipe."""


def load_run(
    folder: Path,
    which: str | int,
    overrides: Sequence[str],
    weights: Literal["auto", "ema", "raw"],
) -> Loaded:
    """Read a checkpoint of a run.

    Args:
        folder: Folder of the run.
        which: ``latest``, ``best`` or a number of steps.
        overrides: ``key=value`` changes to the run's recipe.
        weights: As for ``inference.load``.

    Returns:
        What belongs to the model.

    Raises:
        ValueError: The folder holds no recipe or no such checkpoint, or they do not fit.
    """
    if not (folder / "recipe.yaml").is_file():
        raise ValueError(f"{folder}: no run here (no recipe.yaml); give the run_dir of a training")
    recipe = load_recipe(str(folder / "recipe.yaml"), overrides, check_files=False)
    found = checkpoints.find(folder, which)
    place = f"{found.folder} does not fit the model section of {folder / 'recipe.yaml'}"
    return _filled(recipe, found.model(weights), f"{place}; undo what was changed in it")


def load_weights(path: Path, recipe: str | Path | None, overrides: Sequence[str]) -> Loaded:
    """Read a file of weights by our names, such as ``flava weights convert`` writes.

    Args:
        path: The file.
        recipe: Name or file of the recipe that describes the model.
        overrides: ``key=value`` changes to it.

    Returns:
        What belongs to the model.

    Raises:
        ValueError: There is no recipe, or the file does not fit it.
    """
    if recipe is None:
        raise ValueError(
            f"{path}: weights alone do not say what they are of; add recipe=, such as "
            "recipe='pretrain/flava_base'"
        )
    described = load_recipe(str(recipe), overrides, check_files=False)
    return _filled(described, read_safetensors(path)[0], f"{path} does not fit recipe {recipe}")


def _filled(recipe: Recipe, weights: Mapping[str, Tensor], misfit: str) -> Loaded:
    spec = recipe.data.tokenizer
    tokenizer = registry.tokenizers.build(spec.type, **spec.options)
    learner = build_learner(
        recipe.model,
        recipe.objectives,
        words=tokenizer.vocab_size,
        image_size=recipe.data.image.size,
        seed=recipe.seed,
    )
    try:
        learner.load_state_dict(dict(weights))
    except RuntimeError as error:  # torch lists every name and shape
        raise ValueError(f"{misfit}: {error}") from error
    return learner, tokenizer, recipe
