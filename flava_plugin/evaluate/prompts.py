"""Class names and prompts of zero-shot tasks: those of a file or of clip-benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

LISTS = {
    "classes": "en_classnames.json",
    "templates": "en_zeroshot_classification_templates.json",
}
"""clip-benchmark's files, which hold a list by name of a set."""


class Prompts(NamedTuple):
    """What a zero-shot task asks with.

    Attributes:
        classes: Names of the classes in the order of their numbers, or None where none are said.
        templates: Prompts with ``{}`` for the name, or None.
    """

    classes: list[str] | None
    templates: list[str] | None


def read_prompts(source: str) -> Prompts:
    """Read prompts.

    Args:
        source: A JSON file with ``classes``, ``templates`` or both; or ``clip_benchmark/NAME``, a
            set of the package clip-benchmark, which is read without being imported.

    Returns:
        The prompts; ``{c}`` in a template is ``{}``.

    Raises:
        ValueError: There is no such file, package or set, or its content is not of this form.
    """
    owner, slash, name = source.partition("/")
    if owner == "clip_benchmark" and slash and not Path(source).exists():
        return _installed(name)
    try:
        found = json.loads(Path(source).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"prompts: {source} is no readable JSON file: {error}") from error
    known = isinstance(found, dict) and set(found) <= {"classes", "templates"} and found
    if not known:
        raise ValueError(f"prompts: {source} holds no object of classes, templates or both")
    lists = {key: _checked(found.get(key), f"{source}: {key}") for key in LISTS}
    return Prompts(lists["classes"], _templates(lists["templates"], source))


def _installed(name: str) -> Prompts:
    try:
        files = distribution("clip-benchmark").files or []
    except PackageNotFoundError as error:
        raise ValueError(
            f"prompts: clip_benchmark/{name} is of the package clip-benchmark; install it: pip "
            "install 'flava-plugin[prompts]', or give a JSON file of classes and templates"
        ) from error
    lists: dict[str, Any] = {}
    known: set[str] = set()
    for key, file in LISTS.items():
        place = next((Path(str(each.locate())) for each in files if each.name == file), None)
        by_name = json.loads(place.read_text("utf-8")) if place is not None else {}
        known |= set(by_name)
        lists[key] = _checked(by_name.get(name), f"clip_benchmark/{name}: {key}")
    if lists == dict.fromkeys(LISTS):
        listed = ", ".join(sorted(known))
        raise ValueError(f"prompts: clip-benchmark has no '{name}'; it has {listed}")
    return Prompts(lists["classes"], _templates(lists["templates"], f"clip_benchmark/{name}"))


def _checked(values: Any, where: str) -> list[str] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise ValueError(f"prompts: {where} is no list of texts")
    return values


def _templates(values: Sequence[str] | None, where: str) -> list[str] | None:
    if values is None:
        return None
    changed = [value.replace("{c}", "{}") for value in values]
    for value in changed:
        if value.count("{}") != 1 or value.replace("{}", "").count("{"):
            raise ValueError(f"prompts: {where}: '{value}' has no {{}} for the class name, or more")
    return changed
