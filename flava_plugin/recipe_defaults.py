"""Writes the defaults of components' options into a recipe, so that it says all a run depends on.

A section's own defaults are pydantic's doing; a component's stand in its builder's signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from flava_plugin.registry import REGISTRIES
from flava_plugin.schema import Component, Kind, Section

if TYPE_CHECKING:
    from flava_plugin.recipe import Recipe

Part = TypeVar("Part", bound=Section)


def with_defaults(recipe: Recipe) -> Recipe:
    """Complete every component of a recipe; what the recipe says stays as it is written.

    Args:
        recipe: A checked recipe.

    Returns:
        The recipe with every option of every component.
    """
    return _section(recipe)


def _section(section: Part) -> Part:
    kinds = _kinds(type(section))
    changed = {name: _value(getattr(section, name), kinds.get(name)) for name in kinds}
    return section.model_copy(update=changed)


def _value(value: Any, kind: str | None) -> Any:
    """Complete what a field holds: a component, a section, or a dict or list of them."""
    if isinstance(value, Component):
        return value.model_copy(update=_options(kind, value.type, value.options)) if kind else value
    if isinstance(value, Section):
        return _section(value)
    if isinstance(value, dict):
        if kind and isinstance(value.get("type"), str):  # a component among another's options
            options = {name: option for name, option in value.items() if name != "type"}
            return {"type": value["type"], **_options(kind, value["type"], options)}
        return {name: _value(item, kind) for name, item in value.items()}
    if isinstance(value, list):
        return [_value(item, kind) for item in value]
    return value


def _options(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    schema = REGISTRIES[kind].schema(name)
    kinds = _kinds(schema)
    given = {
        key: _value(value, kinds[key]) if kinds[key] else value for key, value in options.items()
    }
    defaults = {
        key: to_jsonable_python(field.get_default(call_default_factory=True))
        for key, field in schema.model_fields.items()
        if key not in given and not field.is_required()
    }
    return given | defaults


def _kinds(schema: type[BaseModel]) -> dict[str, str | None]:
    hints = get_type_hints(schema, include_extras=True)
    return {name: _kind(hints[name]) for name in schema.model_fields}


def _kind(annotation: Any) -> str | None:
    for part in get_args(annotation):
        found = part.name if isinstance(part, Kind) else _kind(part)
        if found is not None:
            return found
    return None
