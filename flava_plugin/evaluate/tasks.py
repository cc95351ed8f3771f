"""Runs the tasks of a recipe and writes what they measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from flava_plugin import durable, registry
from flava_plugin.evaluate.exhibits import Exhibit
from flava_plugin.evaluate.table import CANNOT
from flava_plugin.model.backbone import LackingError
from flava_plugin.schema import Component

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava

Results = dict[str, dict[str, float | int]]


class Evaluator(Protocol):
    """A task: what a registered evaluator's builder returns.

    One that also has a method ``exhibits(flava) -> list[Exhibit]`` gets sections of the report.
    """

    def __call__(self, flava: Flava, /) -> dict[str, float | int]:
        """Measure a model.

        Args:
            flava: The model.

        Returns:
            Figures by name. Floats are figures, whole numbers are sizes; ``<figure>_majority``,
            ``<figure>_chance``, ``majority`` and ``chance`` are the levels they stand beside.

        Raises:
            LackingError: The model has no part that the task needs.
        """
        ...


def build_tasks(tasks: Mapping[str, Component], split: str | None) -> dict[str, Evaluator]:
    """Build the evaluators of a recipe.

    Args:
        tasks: Evaluators by task name.
        split: Value of each one's ``split`` option; None leaves the recipe's.

    Returns:
        Evaluators by task name.
    """
    built = {}
    for name, spec in tasks.items():
        options = spec.options
        if split is not None and "split" in registry.evaluators.schema(spec.type).model_fields:
            options["split"] = split
        built[name] = registry.evaluators.build(spec.type, **options)
    return built


def measure(flava: Flava, evaluators: Mapping[str, Evaluator]) -> Results:
    """Run built evaluators, with a progress bar on a terminal.

    Args:
        flava: The model.
        evaluators: By task name.

    Returns:
        Figures by task name.
    """
    return {name: evaluator(flava) for name, evaluator in _one_by_one(flava, evaluators)}


def measure_all(
    flava: Flava, evaluators: Mapping[str, Evaluator]
) -> tuple[dict[str, Any], list[str]]:
    """Run built evaluators, also those that this model has no part for.

    Args:
        flava: The model.
        evaluators: By task name.

    Returns:
        Figures by task name, or the reason under ``CANNOT``; and the names of tasks with figures.

    Raises:
        LackingError: Not one of them can be done.
    """
    results: dict[str, Any] = {}
    refused: list[LackingError] = []
    for name, evaluator in _one_by_one(flava, evaluators):
        try:
            results[name] = evaluator(flava)
        except LackingError as lacking:
            results[name] = {CANNOT: str(lacking)}
            refused.append(lacking)
    if evaluators and len(refused) == len(evaluators):
        raise refused[0]
    return results, [name for name, figures in results.items() if CANNOT not in figures]


def _one_by_one(
    flava: Flava, evaluators: Mapping[str, Evaluator]
) -> Iterator[tuple[str, Evaluator]]:
    hidden = True if flava.ranks.rank else None  # None: shown on a terminal
    with tqdm(evaluators.items(), unit="task", leave=False, disable=hidden) as progress:
        for name, evaluator in progress:
            progress.set_description(f"evaluate {name}")
            yield name, evaluator


def show(flava: Flava, evaluators: Mapping[str, Evaluator]) -> list[Exhibit]:
    """Collect what the evaluators show in the report.

    Args:
        flava: The model.
        evaluators: By task name; those without a method ``exhibits`` show nothing.

    Returns:
        Exhibits in the order of the tasks.
    """
    makers = [getattr(evaluator, "exhibits", None) for evaluator in evaluators.values()]
    return [exhibit for maker in makers if maker is not None for exhibit in maker(flava)]


def write_results(run_dir: Path, results: Mapping[str, Any]) -> Path:
    """Write ``results.json``.

    Args:
        run_dir: Folder of the run.
        results: Figures by task name, and ``seconds``, ``seed`` and ``split``.

    Returns:
        Its path.
    """
    path = run_dir / "results.json"
    durable.write_text(path, json.dumps(results, indent=2) + "\n")
    return path
