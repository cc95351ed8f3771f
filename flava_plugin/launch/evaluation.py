"""An evaluation as a job: what it runs, and what can be checked before the run is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flava_plugin.launch.checks import Check
from flava_plugin.launch.job import EvaluationJob
from flava_plugin.recipe import RecipeError, load_recipe


def evaluation(
    run_dir: Path, overrides: tuple[str, ...], options: Mapping[str, Any], *, awaited: bool
) -> tuple[EvaluationJob, list[Check], list[str]]:
    """Prepare the evaluation of a run.

    Args:
        run_dir: Absolute path of the run folder.
        overrides: Changes to the run's recipe.
        options: ``split``, ``tasks``, ``which`` and ``report`` of the job.
        awaited: Whether another job, which this one waits for, makes the run.

    Returns:
        The job, what was looked at, and a line for each error.
    """
    task = EvaluationJob(str(run_dir), overrides=overrides, **options)
    path, errors = run_dir / "recipe.yaml", list[str]()
    if task.which not in ("latest", "best") and not re.fullmatch("[0-9]{1,8}", task.which):
        errors.append(f"--checkpoint: '{task.which}' is not latest, best or a number of steps")
    if not path.is_file():
        if awaited:
            text = f"{run_dir} is not there yet; the job it depends on has to make it"
            return task, [Check("run", "not known", text)], errors
        line = f"{run_dir}: no run here (no recipe.yaml); give the run_dir of a training, or the"
        return task, [], [*errors, f"{line} job that makes it: --dependency afterok:ID"]
    try:
        recipe = load_recipe(str(path), overrides, check_files=False)
    except RecipeError as refused:
        return task, [], [*errors, *refused.lines]
    known = list(recipe.evaluate.tasks)
    if not known:
        errors.append(f"{path}: names no tasks under evaluate.tasks; add one, such as retrieval")
    for name in task.tasks or ():
        if name not in known:
            guess = get_close_matches(name, known, n=1)
            hint = f"did you mean '{guess[0]}'?" if guess else f"it has {', '.join(known)}"
            errors.append(f"--tasks: no task '{name}' in the recipe; {hint}")
    if errors:
        return task, [], errors
    pointer = run_dir / "checkpoints" / ("best" if task.which == "best" else "latest")
    if task.which.isdecimal():
        pointer = run_dir / "checkpoints" / f"{int(task.which):08d}"
    if awaited or pointer.exists():
        state = "there" if pointer.exists() else "to be made by the job it depends on"
        return task, [Check("checkpoint", "ok", f"'{task.which}' of {run_dir} is {state}")], errors
    text = f"{run_dir} has no checkpoint '{task.which}' yet; give --dependency afterok:ID"
    return task, [Check("checkpoint", "refused", text)], errors
