"""An evaluation as a job: what it runs, and what can be checked before the run is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flava_plugin.launch.checks import Check, device_check
from flava_plugin.launch.cluster import Profile
from flava_plugin.launch.job import EvaluationJob
from flava_plugin.launch.measuring import Evaluation
from flava_plugin.recipe import Recipe, RecipeError, load_recipe


def evaluation(
    run_dir: Path,
    overrides: tuple[str, ...],
    options: Mapping[str, Any],
    profile: Profile,
    *,
    awaited: bool,
    recipe: Recipe | None = None,
) -> tuple[EvaluationJob, list[Check], list[str]]:
    """Prepare the evaluation of a run.

    Args:
        run_dir: Absolute path of the run folder.
        overrides: Changes to the run's recipe.
        options: What of ``Evaluation`` is not left as it is.
        profile: What the job asks of the cluster.
        awaited: Whether another job, which this one waits for, makes the run.
        recipe: What that job trains, where it is submitted by the same command.

    Returns:
        The job, what was looked at, and a line for each error.
    """
    task = Evaluation(str(run_dir), overrides=overrides, **options)
    job, path = EvaluationJob(task), run_dir / "recipe.yaml"
    errors = list(_word_errors(task))
    if recipe is None and not path.is_file():
        if awaited:
            text = f"{run_dir} is not there yet; the job it depends on has to make it"
            return job, [Check("run", "not known", text)], errors
        line = f"{run_dir}: no run here (no recipe.yaml); give the run_dir of a training, or the"
        return job, [], [*errors, f"{line} job that makes it: --dependency afterok:ID"]
    try:
        found = _changed(recipe, path, overrides)
    except RecipeError as refused:
        return job, [], [*errors, *refused.lines]
    errors += _task_errors(task, path, list(found.evaluate.tasks))
    checks = [device_check(found, profile)]
    if errors:
        return job, checks, errors
    pointer = run_dir / "checkpoints" / ("best" if task.which == "best" else "latest")
    if task.which.isdecimal():
        pointer = run_dir / "checkpoints" / f"{int(task.which):08d}"
    if awaited or pointer.exists():
        state = "there" if pointer.exists() else "to be made by the job it depends on"
        checks.append(Check("checkpoint", "ok", f"'{task.which}' of {run_dir} is {state}"))
    else:
        text = f"{run_dir} has no checkpoint '{task.which}' yet; give --dependency afterok:ID"
        checks.append(Check("checkpoint", "refused", text))
    return job, checks, errors


def _word_errors(task: Evaluation) -> Iterator[str]:
    if task.which not in ("latest", "best") and not re.fullmatch("[0-9]{1,8}", task.which):
        yield f"--checkpoint: '{task.which}' is not latest, best or a number of steps"
    if task.data is not None and not Path(task.data).is_dir():
        yield f"--data: {task.data}: no such folder; it holds the sets, such as food-101"
    if task.data is None and (task.finetuned or task.again):
        flag = "--with" if task.finetuned else "--again"
        yield f"{flag}: is of the paper's tasks; give --data too"
    if task.finetuned:
        from flava_plugin.evaluate.finetuned_runs import parse_runs

        try:
            parse_runs(task.finetuned)
        except ValueError as error:
            yield str(error)
    if task.compare is not None and not Path(task.compare).is_dir():
        yield f"--compare: {task.compare}: no such run folder"


def _task_errors(task: Evaluation, path: Path, own: list[str]) -> Iterator[str]:
    """Find names that are no task's, and an evaluation of nothing."""
    known = list(own)
    if task.data is not None:
        from flava_plugin.evaluate.paper_tasks import TASKS

        known += TASKS
    elif not own:
        yield f"{path}: names no tasks under evaluate.tasks; add one, such as retrieval"
    for name in task.tasks or ():
        if name not in known:
            guess = get_close_matches(name, known, n=1)
            hint = f"did you mean '{guess[0]}'?" if guess else f"it has {', '.join(known)}"
            yield f"--tasks: no task '{name}' in the recipe; {hint}"


def _changed(recipe: Recipe | None, path: Path, overrides: tuple[str, ...]) -> Recipe:
    """The run's recipe with changes; of a run that is not there yet, as its folder will hold it."""
    if recipe is None:
        return load_recipe(str(path), overrides, check_files=False)
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "recipe.yaml"
        draft.write_text(recipe.to_yaml(), "utf-8")
        try:
            return load_recipe(str(draft), overrides, check_files=False)
        except RecipeError as refused:
            lines = [line.replace(str(draft), str(path)) for line in refused.lines]
            raise RecipeError(lines) from None
