"""Figures of fine-tuned runs, put beside those of the frozen model they started from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flava_plugin.evaluate.averages import averages
from flava_plugin.evaluate.paper_run import per_cent
from flava_plugin.evaluate.paper_tasks import TASKS
from flava_plugin.evaluate.report import read_json


def parse_runs(pairs: Sequence[str]) -> dict[str, Path]:
    """Read ``--with TASK=RUN``.

    Args:
        pairs: What stands behind the option.

    Returns:
        Folders of runs by task.

    Raises:
        ValueError: One is not of this form, or names no task.
    """
    found = {}
    for pair in pairs:
        name, equals, run_dir = pair.partition("=")
        if not equals or not run_dir or name not in TASKS:
            raise ValueError(f"--with: '{pair}' is not TASK=RUN with a task of: {', '.join(TASKS)}")
        found[name] = Path(run_dir)
    return found


def with_runs(results: Mapping[str, Any], runs: Mapping[str, Path]) -> dict[str, Any]:
    """Add the figures of fine-tuned runs to those of a frozen model.

    Args:
        results: What ``evaluate_paper`` returned.
        runs: Folder of an evaluated run by task. A figure is the mean over those tasks of its
            ``results.json`` that have it: MNLI's matched and mismatched sets are two.

    Returns:
        The same with these tasks, and the averages over all.

    Raises:
        ValueError: A run was not evaluated by the metric of its task.
    """
    tasks = dict(results["tasks"])
    for name, run_dir in runs.items():
        measured = [
            figures
            for key, figures in read_json(run_dir / "results.json").items()
            if isinstance(figures, Mapping) and key != "seconds"
        ]
        tasks[name] = {}
        for figure in TASKS[name].printed:
            values = [float(figures[figure]) for figures in measured if figure in figures]
            if not values:
                raise ValueError(
                    f"--with {name}={run_dir}: its results.json has no {figure}; add the evaluator "
                    f"and run: flava eval {run_dir}"
                )
            tasks[name][figure] = sum(values) / len(values)
    ordered = {name: tasks[name] for name in TASKS if name in tasks}
    left_out = {name: why for name, why in results["not_run"].items() if name not in runs}
    means = averages(per_cent(ordered))
    return {**results, "tasks": ordered, "not_run": left_out, "averages": means}
