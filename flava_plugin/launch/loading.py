"""The recipes of a submission, with every error; what is sound of a refused one is checked on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flava_plugin.launch import sweep
from flava_plugin.recipe import (
    Recipe,
    RecipeError,
    find_recipe,
    load_recipe,
    override,
    read_recipe,
)
from flava_plugin.recipe_check import without_errors

Loaded = tuple[str, Recipe | None, frozenset[str]]
"""Name of an element, what is sound of its recipe, and the keys of what is not."""

_AWAITED = re.compile(r": init\.(?:(?:image|text)\.)?run: '(.*)' does not exist")


def load(
    name: str,
    overrides: Sequence[str],
    *,
    awaits: Callable[[Path], bool],
    origin: Mapping[str, Any] | None = None,
) -> tuple[Recipe | None, list[str], frozenset[str]]:
    """Load a recipe, or of one that is refused what is sound of it, for further checks.

    Args:
        name: A recipe.
        overrides: Changes to it.
        awaits: Whether another job, which this one waits for, may make a run that ``init`` names.
        origin: The recipe of that job as plain data, where it is submitted by the same command.

    Returns:
        The recipe, or its sound rest, or None where there is none; a line for each error; and the
        keys that are left out of the rest.
    """
    try:
        return load_recipe(name, overrides, origin=origin), [], frozenset()
    except RecipeError as refused:
        errors = refused.lines
    missing = [(line, _AWAITED.search(line)) for line in errors]
    errors = [line for line, run in missing if run is None or not awaits(Path(run[1]))]
    try:
        sound = load_recipe(name, overrides, check_files=False, origin=origin)
        return sound, errors, frozenset()
    except RecipeError:
        pass
    try:
        data, _ = override(read_recipe(find_recipe(name)), overrides)
    except RecipeError:
        return None, errors, frozenset()
    rest, left_out = without_errors(Recipe, data)
    return rest, errors, left_out


def load_sweep(
    name: str,
    overrides: Sequence[str],
    axes: Sequence[str],
    base: Path,
    *,
    awaits: Callable[[Path], bool],
) -> tuple[list[Loaded], list[str]]:
    """Load the recipe of each element of a sweep.

    Args:
        name: A recipe.
        overrides: Changes to it in every element.
        axes: What stood after each ``--sweep``.
        base: Absolute path of the folder of the sweep.
        awaits: As for ``load``.

    Returns:
        The elements; and a line for each error, one of several elements once, as of the first.
    """
    recipes, named, twins = list[Loaded](), dict[str, tuple[str, list[str]]](), dict[str, str]()
    parts, errors = sweep.elements(axes)
    for element, pairs in parts:
        place = f"run_dir={json.dumps(str(base / element))}"  # an override's value is YAML
        one, found, left_out = load(name, [*overrides, *pairs, place], awaits=awaits)
        recipes.append((element, one, left_out))
        for line in found:
            kind = line.rpartition(" (got ")[0] or line  # the values may be each element's own
            named.setdefault(kind, (line, []))[1].append(element)
        if one is not None and not found:
            twin = one.model_copy(update={"run_dir": ""}).model_dump_json()
            if twins.setdefault(twin, element) != element:
                errors.append(f"--sweep: '{twins[twin]}' and '{element}' are the same run")
    for line, names in named.values():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        errors.append(f"[{names[0]}{more}] {line}")
    return recipes, errors
