"""``flava ls``, ``flava show`` and ``flava cp``: what there is, and what it takes."""

from __future__ import annotations

import argparse
import ast
import shlex
import shutil
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin


def add_commands(commands: Any) -> None:
    """Add the commands to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    from flava_plugin.registry import REGISTRIES

    ls = commands.add_parser("ls", help="list recipes and registered components")
    ls.add_argument(
        "kind", nargs="?", choices=["recipes", "tasks", *REGISTRIES], help="default: everything"
    )
    ls.set_defaults(run=run_ls)

    show = commands.add_parser("show", help="a component's options, or a whole recipe, checked")
    show.add_argument("name", help="a component, a recipe, or tasks/NAME of the paper")
    show.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    show.add_argument("--value", action="append", metavar="KEY",
                      help="only the value of a recipe's key, for scripts")  # fmt: skip
    show.set_defaults(run=run_show)

    cp = commands.add_parser("cp", help="copy a built-in recipe to edit")
    cp.add_argument("recipe")
    cp.add_argument("destination", type=Path)
    cp.set_defaults(run=run_cp)


def run_ls(arguments: argparse.Namespace) -> int:
    """Print a line for each recipe and component; imports none of them.

    Args:
        arguments: Has ``kind``.

    Returns:
        The exit code.
    """
    from flava_plugin.registry import REGISTRIES

    rows: list[tuple[str, str, str, str]] = []
    if arguments.kind == "tasks":
        rows += _tasks()
    if arguments.kind in (None, "recipes"):
        rows += [("recipe", name, "", text) for name, text in _recipes()]
    for kind, registry in REGISTRIES.items():
        if arguments.kind in (None, kind):
            for entry in registry.entries():
                package = f"{entry.package} {entry.version}".strip()
                text = _first_line(entry.package, entry.target)
                rows.append((entry.kind, entry.name, package, text))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[3]]).rstrip())
    return 0


def _tasks() -> list[tuple[str, str, str, str]]:
    """The paper's 35 tasks: how each is measured, and what FLAVA reached."""
    from flava_plugin.evaluate.paper_tasks import TASKS

    found: list[tuple[str, str, str, str]] = []
    for task in TASKS.values():
        how = task.recipe if task.kind == "finetuned" else "frozen model"
        printed = ", ".join(f"{name} {values[0]:.2f}" for name, values in task.printed.items())
        found.append((task.group, task.name, how, f"FLAVA: {printed}; data in {task.folder}"))
    return found


def _recipes() -> list[tuple[str, str]]:
    from flava_plugin.recipe import recipe_names, recipes_folder

    found = []
    for name in recipe_names():
        first = (recipes_folder() / f"{name}.yaml").read_text("utf-8").partition("\n")[0]
        found.append((name, first.lstrip("# ")))
    return found


def _first_line(package: str, target: str) -> str:
    """First line of a builder's docstring, read from its source without importing it."""
    module, _, attribute = target.partition(":")
    source = _source_file(package, module)
    if source is None:
        return ""
    try:
        tree = ast.parse(source.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return "(its source cannot be read)"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == attribute:
                    return _first_line(package, f"{node.module}:{alias.name}")
    return ""


def _source_file(package: str, module: str) -> Path | None:
    relative = Path(*module.split("."))
    roots = [Path(entry or ".") for entry in sys.path]
    with suppress(PackageNotFoundError):  # registered by a decorator: it lies on sys.path
        roots.insert(0, Path(str(distribution(package).locate_file(""))))
    for root in roots:
        for candidate in (root / relative.with_suffix(".py"), root / relative / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def run_show(arguments: argparse.Namespace) -> int:
    """Print a component's options, or a recipe with every default, checked.

    Args:
        arguments: Has ``name``, ``overrides`` and ``value``.

    Returns:
        The exit code.

    Raises:
        RecipeError: The recipe is refused, or a component is given overrides; or no such task.
    """
    from flava_plugin.recipe import RecipeError, load_recipe
    from flava_plugin.registry import REGISTRIES

    if arguments.name == "tasks" or arguments.name.startswith("tasks/"):
        from flava_plugin.cli.catalog_tasks import described

        try:
            print(described(arguments.name), end="")
        except ValueError as error:
            raise RecipeError([str(error)]) from error
        return 0
    homes = [registry for registry in REGISTRIES.values() if arguments.name in registry.names()]
    if not homes:
        recipe = load_recipe(arguments.name, arguments.overrides, check_files=False)
        for key in arguments.value or []:
            if key not in type(recipe).model_fields:
                raise RecipeError([f"--value: '{key}' is no key at the top of a recipe"])
            print(getattr(recipe, key))
        print("" if arguments.value else recipe.to_yaml(), end="")
        return 0
    if arguments.overrides or arguments.value:
        raise RecipeError([f"{arguments.name}: is a component; leave out key=value and --value"])
    for registry in homes:
        entry = next(e for e in registry.entries() if e.name == arguments.name)
        print(f"{entry.kind} {entry.name}, from {entry.owner} {entry.version}\n")
        print(registry.get(arguments.name).__doc__ or "(it has no docstring)", end="\n\n")
        for option, field in registry.schema(arguments.name).model_fields.items():
            default = "needed" if field.is_required() else f"default {field.default!r}"
            print(f"  {option}: {_type_name(field.annotation)}, {default}")
    return 0


def _type_name(annotation: Any) -> str:
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:  # what else a number has to be is not its type
        return _type_name(inner[0])
    if get_origin(annotation) is dict:
        return f"dict[{', '.join(map(_type_name, inner))}]"
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name.replace("typing.", "")


def run_cp(arguments: argparse.Namespace) -> int:
    """Copy a recipe; an existing file is not overwritten.

    Args:
        arguments: Has ``recipe`` and ``destination``.

    Returns:
        The exit code.

    Raises:
        RecipeError: The destination exists.
    """
    from flava_plugin.recipe import RecipeError, find_recipe

    source = find_recipe(arguments.recipe)
    target: Path = arguments.destination
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise RecipeError([f"{target}: exists already; choose another name"])
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    print(f"{target}: edit it, then: flava train {shlex.quote(str(target))}")
    return 0
