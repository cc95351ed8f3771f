"""What a fine-tuning recipe leaves to the run it starts from: the model, and what it was fed with.

A recipe with ``init.run`` says no architecture; that run's saved recipe does. What a recipe says
itself stands: ``model: {image_encoder: {image_size: 480}}`` changes one value of the run's. Runs
that single encoders are taken from (``init.image.run``, ``init.text.run``) say nothing of the rest
of a model, so such a recipe describes it whole.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flava_plugin.recipe import RecipeError, find_recipe, read_recipe, recipe_names

FED = ("image.size", "image.mean", "image.std", "text.pair_length", "text.text_length")
"""Keys of ``data`` that weights are used to."""

SAME = ("image.mean", "image.std")
"""Those of which another value is told: the weights have not seen such numbers."""

logger = logging.getLogger(__name__)


def complete(
    data: dict[str, Any], origin: Mapping[str, Any] | None, *, check_files: bool
) -> dict[str, Any]:
    """Fill in what a recipe leaves to the run it starts from, if it leaves anything.

    Args:
        data: A recipe as plain data, unchecked.
        origin: The recipe of that run as plain data; None reads it from the run's folder.
        check_files: Whether the folder has to be there; else the built-in recipe that trains into
            it stands in for one that is not, which is told.

    Returns:
        The recipe, or ``data`` itself where nothing is left out.

    Raises:
        RecipeError: There is no such run, or it has no recipe.
    """
    run = origin_of(data)
    if run is None:
        return data
    if origin is None and not check_files and not run.exists():
        origin = _planned(run)
    return with_origin(data, _saved(run) if origin is None else origin)


def _planned(run: Path) -> dict[str, Any] | None:
    """The built-in recipe whose ``run_dir`` is a folder, and which says its own model."""
    for name in recipe_names():
        data = read_recipe(find_recipe(name))
        if data.get("run_dir") == str(run) and origin_of(data) is None:
            logger.warning(
                "init.run: '%s' does not exist; model, data.tokenizer and what else is read from "
                "it are shown as of %s, which trains there",
                *(run, name),
            )
            return data
    return None


def started(data: Mapping[str, Any]) -> bool:
    """Whether a run has a checkpoint of its own, and so needs nothing of what it started from.

    Args:
        data: A recipe as plain data, unchecked.

    Returns:
        True where its folder holds a checkpoint.
    """
    run_dir = data.get("run_dir")
    if not isinstance(run_dir, str) or "\0" in run_dir:
        return False
    folder = Path(os.path.expandvars(Path(run_dir).expanduser())) / "checkpoints"
    try:
        return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())
    except OSError:  # such as a name that is too long; where it is to be written says so
        return False


def origin_of(data: Mapping[str, Any]) -> Path | None:
    """Say from which run a recipe takes what it leaves out.

    Args:
        data: A recipe as plain data, unchecked.

    Returns:
        The run folder; None where the recipe names none, or leaves nothing out.
    """
    init = data.get("init")
    run = init.get("run") if isinstance(init, dict) else None
    if not isinstance(run, str) or not run or _whole(data):
        return None
    return Path(os.path.expandvars(run))


def with_origin(data: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what a recipe leaves to the run it starts from.

    The codebook stays behind, for it is no part of the backbone; a recipe that predicts codes names
    its own. Another tokenizer or normalisation than the run's is told by name.

    Args:
        data: A recipe as plain data, unchecked; what it has of other form than a recipe's is left
            for the check.
        saved: The recipe of that run as plain data.

    Returns:
        The recipe with the model, the tokenizer, ``FED``, the number of hidden patches and the
        plugins of the run, and over them its own values.
    """
    filled = dict(data)
    given = data.get("model")
    model = {key: value for key, value in _part(saved, "model").items() if key != "codebook"}
    filled["model"] = _over(model, {} if given is None else given)

    own, theirs = data.get("data"), _part(saved, "data")
    if isinstance(own, dict):
        own = dict(own)
        _tell(own, theirs)
        own.setdefault("tokenizer", theirs.get("tokenizer"))
        size = _at(given, "image_encoder.image_size")
        if size is not None:
            _fill(own, "image.size", size)
        for key in (*FED, "masking.patch_count"):
            _fill(own, key, _at(theirs, key))
        filled["data"] = own

    plugins, mine = saved.get("plugins") or [], data.get("plugins") or []
    if isinstance(plugins, list) and isinstance(mine, list) and plugins:
        filled["plugins"] = [*plugins, *(name for name in mine if name not in plugins)]
    return filled


def _whole(data: Mapping[str, Any]) -> bool:
    """Whether a recipe describes its model and its tokenizer itself, as a resolved one does."""
    model = data.get("model")
    encoders = [_at(model, f"{name}.type") for name in ("image_encoder", "text_encoder")]
    return None not in encoders and _at(data, "data.tokenizer") is not None


def _saved(run: Path) -> dict[str, Any]:
    """The recipe in a run folder."""
    if not run.is_dir():
        raise RecipeError(
            [
                f"init.run: '{run}' does not exist; the model section is read from that run: name "
                "one with init.run=RUN, or give model and data.tokenizer. A run that has started "
                "goes on without it: 'flava train' with its own folder"
            ]
        )
    if not (run / "recipe.yaml").is_file():
        raise RecipeError(
            [
                f"init.run: '{run}' holds no recipe.yaml, from which the model section is read; "
                "give the run_dir of a training"
            ]
        )
    return read_recipe(run / "recipe.yaml")


def _part(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = data.get(key)
    return part if isinstance(part, dict) else {}


def _at(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _over(base: Any, given: Any) -> Any:
    """Lay given values over others; a component of another type is taken whole."""
    if not isinstance(base, dict) or not isinstance(given, dict):
        return given
    if given.get("type", base.get("type")) != base.get("type"):
        return given
    return base | {key: _over(base.get(key), value) for key, value in given.items()}


def _fill(data: dict[str, Any], key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    part = data.get(section, {})
    if value is not None and isinstance(part, dict) and name not in part:
        data[section] = part | {name: value}


def _tell(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Tell of values that differ from those the weights were trained with."""
    tokenizer = own.get("tokenizer")
    keys = [f"tokenizer.{key}" for key in tokenizer] if isinstance(tokenizer, dict) else []
    for key in (*keys, *SAME):
        mine, saved = _at(own, key), _at(theirs, key)
        text = os.path.expandvars(mine) if isinstance(mine, str) else mine
        if mine is not None and text != saved:
            logger.warning(
                "data.%s: %s here, %s in the run whose weights are taken; leave the key out to "
                "take the run's",
                *(key, text, saved),
            )
