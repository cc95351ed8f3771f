"""The recipe: one YAML file, complete and flat, checked whole before any work starts."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from flava_plugin.schema import Int, Section
from flava_plugin.sections import (
    CheckpointSection,
    EvaluateSection,
    MetricsSection,
    ModelSection,
    ObjectiveSection,
    OptimSection,
    ShardingSection,
)
from flava_plugin.sections_balance import BalanceSection, MixtureSection
from flava_plugin.sections_data import DataSection
from flava_plugin.sections_init import InitSection
from flava_plugin.strict_yaml import MOST_BYTES, YamlError, dump, parse


def expand_run_dir(text: str) -> str:
    """Replace ``$VAR`` and ``~`` in the run folder's path.

    Args:
        text: The path as it is written.

    Returns:
        The expanded path.

    Raises:
        ValueError: A variable is not set, or the path is none.
    """
    expanded = os.path.expandvars(Path(text).expanduser())
    if "$" in expanded:
        raise ValueError("names a variable that is not set; export it first")
    if "\0" in expanded:
        raise ValueError("holds a NUL character, which no path does")
    return expanded


class Recipe(Section):
    """Everything a run is; what a job needs from a cluster is not part of it.

    Attributes:
        steps: Optimiser steps.
        seed: All randomness is a function of it, the step and the index.
        run_dir: Folder of the run.
        precision: Of the forward pass; norms, losses and the contrastive branch stay in fp32.
            ``fp16`` (CUDA only) scales the loss so that small gradients do not vanish.
        attention: How attention is computed: ``auto`` takes what was measured to be fastest for
            the device and precision; ``fused``, ``plain`` or ``varlen`` insist.
        compile: Compile the encoders' layers (torch.compile); worth its minutes on a GPU.
        device: ``auto`` takes a GPU where there is one.
        threads: CPU threads of each process; null leaves torch's choice. Part of what bit-for-bit
            means on a CPU.
        plugins: Modules to import first, which register components by decorator.
        freeze: Patterns of what is not trained (``model/freezing.py``): ``image_encoder``,
            ``text_encoder.encoder.layer.[0-5]``, ``*embeddings*``.
        model: The backbone; with ``init.run``, what is not said is that run's.
        objectives: Head and loss by name.
        data: What is read.
        mixture: Which source feeds a step.
        balance: How losses are weighted.
        optim: AdamW and its schedule.
        sharding: How state lies over ranks.
        checkpoint: When the run is saved.
        metrics: When it reports.
        evaluate: What is measured.
        init: Weights to start from.
    """

    steps: Annotated[Int, Field(gt=0)]
    seed: Annotated[Int, Field(ge=0)] = 0
    run_dir: Annotated[str, Field(min_length=1), AfterValidator(expand_run_dir)]
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    attention: Literal["auto", "fused", "plain", "varlen"] = "auto"
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[Int, Field(gt=0, le=1024)] | None = None
    plugins: list[str] = []
    freeze: list[str] = []
    model: ModelSection
    objectives: Annotated[dict[str, ObjectiveSection], Field(min_length=1)]
    data: DataSection
    mixture: MixtureSection = MixtureSection()
    balance: BalanceSection = BalanceSection()
    optim: OptimSection = OptimSection()
    sharding: ShardingSection = ShardingSection()
    checkpoint: CheckpointSection = CheckpointSection()
    metrics: MetricsSection = MetricsSection()
    evaluate: EvaluateSection = EvaluateSection()
    init: InitSection | None = None

    def to_yaml(self) -> str:
        """The resolved recipe, every default written out."""
        return dump(self.model_dump(mode="json"))


class RecipeError(ValueError):
    """A recipe that is refused.

    Args:
        lines: One line for each error: where, what, and the way out.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)


def recipes_folder() -> Path:
    """The folder of built-in recipes: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    shipped = package / "_recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the built-in recipes, such as ``pretrain/shapes``."""
    folder = recipes_folder()
    found = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return sorted(path.as_posix() for path in found)


def find_recipe(name: str) -> Path:
    """Find a recipe file.

    Args:
        name: A built-in name, or a path to a YAML file.

    Returns:
        Path of the file.

    Raises:
        RecipeError: There is none; the text says what there is.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = recipes_folder() / f"{name}.yaml"
    if name in recipe_names() and shipped.is_file():
        return shipped
    if path.is_dir() and (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    from difflib import get_close_matches

    guess = get_close_matches(name, recipe_names(), n=1)
    hint = f"did you mean '{guess[0]}'?" if guess else f"built in: {', '.join(recipe_names())}"
    raise RecipeError([f"{name}: no such recipe file and no built-in recipe; {hint}"])


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a YAML file into plain data.

    Args:
        path: The file.

    Returns:
        The mapping it holds, unchecked.

    Raises:
        RecipeError: It cannot be read, is no strict YAML, or holds no mapping.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecipeError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(raw) > MOST_BYTES:
        raise RecipeError([f"{path}: {len(raw)} bytes; no recipe is larger than {MOST_BYTES}"])
    try:
        data = parse(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError([f"{path}: is not UTF-8 text (byte {error.start})"]) from error
    except YamlError as error:
        raise RecipeError([f"{path}: {error}"]) from error
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds a {type(data).__name__}"
        raise RecipeError([f"{path}: {found}, not the keys of a recipe; see 'flava show'"])
    return data


_REMOVABLE = ("objectives", "data.sources", "evaluate.tasks")


def override(data: dict[str, Any], changes: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Apply ``key.path=value`` overrides; values are YAML.

    ``null`` removes an entry of ``objectives``, ``data.sources`` and ``evaluate.tasks``.

    Args:
        data: A recipe as plain data.
        changes: The overrides.

    Returns:
        The changed copy, and a line for each override that cannot be applied.
    """
    data, errors = copy.deepcopy(data), []
    for change in changes:
        key, separator, text = change.partition("=")
        parts = key.split(".")
        if not separator or not all(parts):
            errors.append(f"override '{change}': write key=value, such as optim.lr=1e-4")
            continue
        try:
            value = parse(text)
        except YamlError as error:
            errors.append(f"override '{change}': {error}")
            continue
        place: Any = data
        for part in parts[:-1]:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            errors.append(f"override '{change}': '{'.'.join(parts[:-1])}' has no keys of its own")
        elif value is None and ".".join(parts[:-1]) in _REMOVABLE:
            if place.pop(parts[-1], None) is None:
                errors.append(f"override '{change}': there is no '{key}' to remove")
        else:
            place[parts[-1]] = value
    return data, errors


def import_plugins(names: Any) -> list[str]:
    """Import the modules a recipe lists under ``plugins``.

    Args:
        names: The value of ``plugins``; its type is checked elsewhere.

    Returns:
        A line for each module that cannot be imported.
    """
    errors = []
    here = str(Path.cwd())
    for name in names if isinstance(names, list) else []:
        if here not in sys.path:
            sys.path.insert(0, here)  # as 'python -m' does; a console script does not
        try:
            import_module(str(name))
        except (Exception, SystemExit) as error:  # a foreign module may raise anything
            errors.append(f"plugins: '{name}' cannot be imported: {type(error).__name__}: {error}")
    return errors


def load_recipe(
    name: str,
    overrides: Iterable[str] = (),
    *,
    check_files: bool = True,
    origin: Mapping[str, Any] | None = None,
) -> Recipe:
    """Load and check a recipe, every error at once.

    Args:
        name: A built-in name, or a path to a YAML file or to a run folder.
        overrides: ``key.path=value`` each.
        check_files: Whether the files and folders it reads must exist; classes that a head leaves
            open are counted in them then (``recipe_classes.py``).
        origin: The resolved recipe, as plain data, of the run that ``init.run`` names, where that
            run is still to come; None reads it from that run's folder (``recipe_from_run.py``).

    Returns:
        The recipe, every option of its components written out.

    Raises:
        RecipeError: Anything is wrong with it; ``lines`` holds every error.
    """
    from flava_plugin.recipe_check import check
    from flava_plugin.recipe_classes import with_class_counts
    from flava_plugin.recipe_defaults import with_defaults
    from flava_plugin.recipe_from_run import complete, started

    path = find_recipe(name)
    data, errors = override(read_recipe(path), overrides)
    try:
        data = complete(data, origin, check_files=check_files)
    except RecipeError as error:
        raise RecipeError([f"{path}: {line}" for line in [*errors, *error.lines]]) from error
    errors += import_plugins(data.get("plugins"))
    awaited = origin is not None or started(data)
    recipe, found = check(data, Recipe, check_files=check_files, awaited=awaited)
    errors += found
    if recipe is None or errors:
        raise RecipeError([f"{path}: {line}" for line in errors])
    recipe = with_defaults(recipe)
    if check_files:
        recipe, errors = with_class_counts(recipe)
        if errors:
            raise RecipeError([f"{path}: {line}" for line in errors])
    return recipe
