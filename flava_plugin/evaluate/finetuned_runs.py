"""Figures of fine-tuned runs, put beside those of the frozen model they started from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flava_plugin.evaluate.averages import averages
from flava_plugin.evaluate.paper_run import per_cent
from flava_plugin.evaluate.paper_tasks import TASKS, PaperTask
from flava_plugin.evaluate.report import read_json
from flava_plugin.recipe import read_recipe

Figures = Mapping[str, Any]

MISMATCHED = "mismatched"
"""End of the name of the evaluator on MNLI's second set: the paper's figure is the mean of both."""


def parse_runs(words: Sequence[str]) -> dict[str, Path]:
    """Read ``--with TASK=RUN`` and ``--with FOLDER``.

    Args:
        words: What stands behind the option: a task and its run; or a folder, whose runs (itself or
            its sub-folders) are taken whose recipe evaluates a dataset of one of the paper's
            fine-tuned tasks. A run that is named stands before those that are found.

    Returns:
        Folders of runs by task.

    Raises:
        ValueError: One is neither, a folder holds no such run, or several of one task.
    """
    named: dict[str, Path] = {}
    found: dict[str, Path] = {}
    for word in words:
        name, equals, run_dir = word.partition("=")
        if equals and run_dir and name in TASKS:
            named[name] = Path(run_dir)
            continue
        if not Path(word).is_dir():
            raise ValueError(
                f"--with: '{word}' is neither a folder of runs nor TASK=RUN with a task of: "
                f"{', '.join(TASKS)}"
            )
        there = list(_runs_in(Path(word)))
        if not there:
            raise ValueError(f"--with {word}: no run in it evaluates one of the paper's tasks")
        for task, run in there:
            if found.setdefault(task, run) != run and task not in named:
                raise ValueError(
                    f"--with {word}: {found[task]} and {run} are both of {task}; say --with "
                    f"{task}=RUN first"
                )
    return {**found, **named}


def _runs_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Tasks of the runs in a folder."""
    for path in (folder / "recipe.yaml", *sorted(folder.glob("*/recipe.yaml"))):
        if path.is_file():
            for task in dict.fromkeys(_tasks_of(path.parent).values()):
                yield task, path.parent


def _tasks_of(run_dir: Path) -> dict[str, str]:
    """The paper's task that each evaluator of a run's recipe measures on, by its dataset."""
    path = run_dir / "recipe.yaml"
    if not path.is_file():
        return {}
    found = {}
    for name, spec in read_recipe(path).get("evaluate", {}).get("tasks", {}).items():
        dataset = spec.get("dataset", {})
        for task in TASKS.values():
            wanted = {"type": task.dataset, **task.options}
            if task.kind == "finetuned" and all(dataset.get(k) == v for k, v in wanted.items()):
                found[name] = task.name
    return found


def with_runs(results: Mapping[str, Any], runs: Mapping[str, Path]) -> dict[str, Any]:
    """Add the figures of fine-tuned runs to those of a frozen model.

    Of a run's ``results.json`` the evaluator counts that bears the task's name; else the one whose
    dataset, by the run's recipe, is the task's; else the only one that has the figure.

    Args:
        results: What ``evaluate_paper`` returned.
        runs: Folder of an evaluated run by task.

    Returns:
        The same with these tasks, and the averages over all.

    Raises:
        ValueError: A run was not evaluated by the metric of its task, or several evaluators have
            it; or MNLI was measured on one of its two sets.
    """
    tasks = dict(results["tasks"])
    for name, run_dir in runs.items():
        tasks[name] = {}
        for figure in TASKS[name].printed:
            tasks[name][figure] = _figure(TASKS[name], figure, run_dir)
    ordered = {name: tasks[name] for name in TASKS if name in tasks}
    left_out = {name: why for name, why in results["not_run"].items() if name not in runs}
    means = averages(per_cent(ordered))
    return {**results, "tasks": ordered, "not_run": left_out, "averages": means}


def _figure(task: PaperTask, figure: str, run_dir: Path) -> float:
    """One figure of a task from its run."""
    here = f"--with {task.name}={run_dir}"
    values = {
        name: value
        for name, figures in read_json(run_dir / "results.json").items()
        if isinstance(figures, Mapping) and name != "seconds"
        and (value := _value(figures, figure)) is not None
    }  # fmt: skip
    if not values:
        raise ValueError(
            f"{here}: its results.json has no {figure}; add the evaluator and run: flava eval "
            f"{run_dir}"
        )
    if task.name != "mnli":
        return values[_only(task, list(values), run_dir, here)]
    second = [name for name in values if name.endswith(MISMATCHED)]
    if len(second) != 1 or len(second) == len(values):
        raise ValueError(
            f"{here}: the paper's figure is the mean of the matched and the mismatched set, and "
            f"{', '.join(values)} are not two of which one's name ends in '{MISMATCHED}'"
        )
    first = [name for name in values if name not in second]
    return (values[second[0]] + values[_only(task, first, run_dir, here)]) / 2


def _value(figures: Figures, figure: str) -> float | None:
    """A figure of an evaluator; the mean of accuracy and F1 also from the two."""
    if figure == "accuracy_and_f1" and figure not in figures and {"accuracy", "f1"} <= set(figures):
        return (float(figures["accuracy"]) + float(figures["f1"])) / 2
    return float(figures[figure]) if figure in figures else None


def _only(task: PaperTask, names: list[str], run_dir: Path, here: str) -> str:
    """The evaluator that a task's figure is of."""
    if task.name in names:
        return task.name
    tasks = _tasks_of(run_dir)
    by_recipe = [name for name in names if tasks.get(name) == task.name] or names
    if len(by_recipe) != 1:
        raise ValueError(
            f"{here}: {', '.join(by_recipe)} all have the figure; call the one that counts "
            f"'{task.name}' in the recipe's evaluate.tasks"
        )
    return by_recipe[0]
