"""Finds every error of a recipe: its keys and values, its components' options, and its sense."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError

from flava_plugin.recipe_balance import sharing_errors
from flava_plugin.recipe_fit import (
    evaluation_errors,
    execution_errors,
    hides_patches,
    objective_errors,
    order_errors,
    sharding_errors,
)
from flava_plugin.registry import REGISTRIES
from flava_plugin.schema import Component, Kind, MustExist, Section, by_name

if TYPE_CHECKING:
    from flava_plugin.recipe import Recipe

RESERVED = {"step", "kind", "source", "grad_norm", "lr", "samples_per_s", "seconds", "compiled"} | {
    *("epoch", "bad_samples", "incidents", "shares", "balance", "weights")
}
"""Keys of a line of ``metrics.jsonl`` that are no objectives."""

_MODEL_WAY = "; init.run=RUN reads it from a run, no other way of init says it"
Model = TypeVar("Model", bound=BaseModel)


def check(
    data: dict[str, Any], schema: type[Recipe], *, check_files: bool, awaited: bool = False
) -> tuple[Recipe | None, list[str]]:
    """Check plain data against the schema of recipes.

    Args:
        data: A recipe as plain data.
        schema: The recipe model.
        check_files: Whether the files and folders it reads must exist.
        awaited: Whether what ``init`` names need not be there (yet).

    Returns:
        The recipe, None where it has errors of form; and a line for each error.
    """
    recipe, errors = _validate(schema, data, ())
    errors += _component_errors(schema, data | {"init": None} if awaited else data, (), check_files)
    sound = recipe or without_errors(schema, data)[0]
    if sound is not None:
        errors += [*_cross_errors(sound), *sharing_errors(sound, check_files=check_files)]
    return recipe, errors


def _path(parts: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in parts)


def _validate(
    schema: type[Model], data: Any, where: tuple[Any, ...]
) -> tuple[Model | None, list[str]]:
    try:
        return schema.model_validate(data), []
    except ValidationError as refused:
        return None, [_line(schema, dict(error), where) for error in refused.errors()]


def _line(schema: type[BaseModel], error: dict[str, Any], where: tuple[Any, ...]) -> str:
    loc = tuple(part for part in error["loc"] if not _names_a_type(part))
    place = _path(where + loc)
    if error["type"] == "extra_forbidden":
        known = _fields_at(schema, loc[:-1])
        guess = get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean '{guess[0]}'?" if guess else f"known: {', '.join(known)}"
        return f"{place}: unknown key; {hint} (got {error['input']!r})"
    if error["type"] == "missing":
        return f"{place}: this key is needed{_MODEL_WAY if place == 'model' else ''}"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{place}: {message} (got {_shown(error['input'])})"


def _names_a_type(part: Any) -> bool:
    """Pydantic puts the tried branch of a union into the path; it is no key of the recipe."""
    text = str(part)
    return "[" in text or text in {"float", "int", "str", "bool", "Component"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _hints(schema: type[BaseModel]) -> dict[str, Any]:
    return {} if issubclass(schema, Component) else get_type_hints(schema, include_extras=True)


def _fields_at(schema: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    current: Any = schema
    in_dict = False
    for part in loc:
        if in_dict:  # this part names an entry, not a field
            in_dict = False
        elif isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            in_dict = field is not None and get_origin(field.annotation) is dict
            current = _first_section(field.annotation) if field else None
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def _first_section(annotation: Any) -> Any:
    """The section class inside an annotation such as ``dict[str, SourceSection]``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_first_section(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)


def _markers(annotation: Any) -> Iterator[Any]:
    """Every ``Kind`` and ``MustExist`` inside an annotation, at any depth."""
    for part in get_args(annotation) or ():
        if isinstance(part, Kind | MustExist):
            yield part
        yield from _markers(part)


def _component_errors(
    schema: type[BaseModel], data: Any, where: tuple[Any, ...], check_files: bool
) -> Iterator[str]:
    """Walk a section's raw values; check each component's options and each path."""
    if not isinstance(data, dict):
        return
    for name, annotation in _hints(schema).items():
        value = data.get(name)
        if value is None:
            continue
        for place, item in _items(annotation, value, (*where, name)):
            for marker in _markers(annotation):
                if isinstance(marker, Kind):
                    raw = by_name(item) if marker.alone else item
                    yield from _check_component(marker.name, raw, place, check_files)
                elif check_files and isinstance(item, str):
                    yield from _check_path(item, place)
            section = _first_section(annotation)
            if section is not None and section is not Component:
                yield from _component_errors(section, item, place, check_files)


def _items(
    annotation: Any, value: Any, where: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The values a field holds: itself, or the entries of a dict or list of sections."""
    plain = get_args(annotation)[0] if get_origin(annotation) is not None else annotation
    kinds = {get_origin(annotation), get_origin(plain)}
    if dict in kinds and isinstance(value, dict):
        for key, item in value.items():
            yield (*where, key), item
    elif list in kinds and isinstance(value, list):
        for index, item in enumerate(value):
            yield (*where, index), item
    else:
        yield where, value


def _check_component(
    kind: str, raw: Any, where: tuple[Any, ...], check_files: bool
) -> Iterator[str]:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return  # the section's own validation says so
    registry = REGISTRIES[kind]
    try:
        schema = registry.schema(raw["type"])
    except ValueError as error:
        yield f"{_path((*where, 'type'))}: {error}"
        return
    options = {key: value for key, value in raw.items() if key != "type"}
    _, errors = _validate(schema, options, where)
    yield from errors
    yield from _component_errors(schema, options, where, check_files)


def _check_path(text: str, where: tuple[Any, ...]) -> Iterator[str]:
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        yield f"{_path(where)}: '{text}' names a variable that is not set; export it first"
    elif "://" not in expanded and not Path(expanded).exists():  # a store is asked at the start
        yield f"{_path(where)}: '{expanded}' does not exist; put the data there or change the path"


def without_errors(
    schema: type[Model], data: dict[str, Any]
) -> tuple[Model | None, frozenset[str]]:
    """Leave out a recipe's malformed values, so that the rest can still be checked for sense.

    Args:
        schema: The recipe model.
        data: A recipe as plain data.

    Returns:
        The rest, with defaults or stand-ins for what was left out, or None where it makes no
        recipe; and the dotted keys of what was left out.
    """
    data, left_out = copy.deepcopy(data), set[str]()
    for _ in range(50):  # each round removes at least one key, or gives up
        try:
            return schema.model_validate(data), frozenset(left_out)
        except ValidationError as refused:
            locs = [error["loc"] for error in refused.errors()]
            left_out |= {_path(tuple(p for p in loc if not _names_a_type(p))) for loc in locs}
            if not any([_remove(data, loc) for loc in locs]):
                break
    return None, frozenset(left_out)


# Needed keys whose value no other check looks at: a sound one stands in for a malformed one.
_STAND_INS: dict[tuple[Any, ...], Any] = {("steps",): 1, ("run_dir",): "."}


def _remove(data: Any, loc: tuple[Any, ...]) -> bool:
    if loc in _STAND_INS:
        data[loc[0]] = _STAND_INS[loc]
        return True
    for part in loc[:-1]:
        if not isinstance(data, dict) or part not in data:
            return False
        data = data[part]
    return isinstance(data, dict) and data.pop(loc[-1], None) is not None


def _cross_errors(recipe: Recipe) -> Iterator[str]:
    """What no single value shows."""
    data = recipe.data
    fed = {source.modality for source in data.sources.values()}
    trained = {objective.modality for objective in recipe.objectives.values()}
    for name, source in data.sources.items():
        if source.modality not in trained:
            yield (
                f"data.sources.{name}: no objective has modality '{source.modality}'; add one, or "
                f"remove the source with data.sources.{name}=null"
            )
    for name, objective in recipe.objectives.items():
        if objective.modality not in fed:
            yield (
                f"objectives.{name}: no source has modality '{objective.modality}'; add one, or "
                f"remove the objective with objectives.{name}=null"
            )
    for name in RESERVED & recipe.objectives.keys():
        yield f"objectives.{name}: each line of metrics.jsonl has a '{name}' already; rename it"
    if data.per_gpu_batch and data.global_batch % data.per_gpu_batch:
        yield (
            f"data.global_batch: {data.global_batch} is not a multiple of data.per_gpu_batch "
            f"{data.per_gpu_batch}"
        )
    yield from objective_errors(recipe)
    yield from execution_errors(recipe)
    yield from sharding_errors(recipe)
    yield from _size_errors(recipe)
    yield from order_errors(recipe)
    yield from evaluation_errors(recipe)


def _option(component: Component, kind: str, name: str) -> Any:
    """An option's value or default; None where the component has no such option."""
    if name in component.options:
        return component.options[name]
    try:
        field = REGISTRIES[kind].schema(component.type).model_fields.get(name)
    except ValueError:
        return None
    return field.default if field is not None else None


def _size_errors(recipe: Recipe) -> Iterator[str]:
    image, masking, text = recipe.data.image, recipe.data.masking, recipe.data.text
    if image.crop is not None and not 0 < image.crop[0] <= image.crop[1] <= 1:
        yield f"data.image.crop: {list(image.crop)} is no range within 0 and 1"
    patch = _option(recipe.model.image_encoder, "encoders", "patch_size")
    size = _option(recipe.model.image_encoder, "encoders", "image_size")
    if isinstance(size, int) and size != image.size:
        yield f"data.image.size: {image.size} differs from model.image_encoder.image_size {size}"
    if isinstance(patch, int) and patch > 0:
        if image.size % patch:
            yield f"data.image.size: {image.size} is not a multiple of the patch size {patch}"
        elif hides_patches(recipe) and masking.patch_count > (image.size // patch) ** 2:
            most = (image.size // patch) ** 2
            yield f"data.masking.patch_count: {masking.patch_count} of {most} patches"
    positions = _option(recipe.model.text_encoder, "encoders", "max_positions")
    for name in ("pair_length", "text_length"):
        length = getattr(text, name)
        if isinstance(positions, int) and length > positions:
            yield (
                f"data.text.{name}: {length} tokens exceed model.text_encoder.max_positions "
                f"{positions}"
            )
