"""Measures a run folder from its checkpoint to ``results.json`` and ``report.html``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from flava_plugin.evaluate.inference import load
from flava_plugin.evaluate.report import read_json, write_report
from flava_plugin.evaluate.sharing import ALONE, Ranks
from flava_plugin.evaluate.tasks import build_tasks, measure_all, show, write_results


def evaluate_run(
    run_dir: Path,
    *,
    split: str | None = None,
    checkpoint: str | int = "latest",
    only: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    report: bool = True,
    weights: Literal["auto", "ema", "raw"] = "auto",
    device: str = "auto",
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Evaluate a run and write what was found.

    Args:
        run_dir: Folder of the run.
        split: Split of every task's dataset; None takes the recipe's ``evaluate.split``.
        checkpoint: ``latest``, ``best`` or a number of steps.
        only: Names of tasks; None takes all of the recipe's.
        overrides: ``key=value`` changes to the run's recipe.
        report: Whether to write ``report.html``.
        weights: As for ``inference.load``.
        device: As for ``inference.load``.
        ranks: This process among those that measure together; the first one writes.

    Returns:
        The contents of ``results.json``: figures by task, or why it cannot be measured; ``seconds``
        of the training (of ``summary.json``) and in total with this evaluation; ``seed`` and
        ``split``.

    Raises:
        ValueError: No such run, checkpoint or task.
    """
    started = time.monotonic()
    flava = load(run_dir, checkpoint, device, overrides=overrides, weights=weights)
    flava.ranks = ranks
    recipe = flava.recipe
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    tasks = recipe.evaluate.tasks
    if not tasks:
        raise ValueError(
            "the recipe names no tasks under evaluate.tasks; add one, such as retrieval"
        )
    unknown = [name for name in only or () if name not in tasks]
    if unknown:
        raise ValueError(f"no task {', '.join(unknown)} in the recipe; it has {', '.join(tasks)}")
    if only is not None:
        tasks = {name: spec for name, spec in tasks.items() if name in only}
    split = split or recipe.evaluate.split
    evaluators = build_tasks(tasks, split)
    results, measured = measure_all(flava, evaluators)
    exhibits = show(flava, {name: evaluators[name] for name in measured}) if report else []
    trained = float(read_json(run_dir / "summary.json").get("seconds", 0.0))
    total = trained + time.monotonic() - started
    results["seconds"] = {"train": round(trained, 2), "total": round(total, 2)}
    results |= {"seed": recipe.seed, "split": split}
    if ranks.rank:
        return results
    write_results(run_dir, results)
    if report:
        write_report(run_dir, results, exhibits, list(recipe.objectives))
    return results
