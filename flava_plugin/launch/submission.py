"""From a command line to jobs: everything is read and checked before anything is submitted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flava_plugin.launch import ask, sweep
from flava_plugin.launch.checks import Check, fit_checks, time_checks
from flava_plugin.launch.checks_cluster import cluster_checks
from flava_plugin.launch.checks_folder import (
    claim_check,
    data_check,
    folder_check,
    progress_checks,
)
from flava_plugin.launch.cluster import FLAGS, Profile, load_profile
from flava_plugin.launch.cluster_values import dependency as check_dependency
from flava_plugin.launch.cluster_values import one_line
from flava_plugin.launch.evaluation import evaluation
from flava_plugin.launch.job import EvaluationJob, TrainingJob
from flava_plugin.recipe import Recipe, RecipeError, load_recipe

Executor = Literal["slurm", "local", "debug"]


@dataclass(frozen=True)
class Request:
    """What was asked for, as it was typed.

    Attributes:
        name: A recipe, or a run folder where it is to be evaluated.
        overrides: ``key=value`` changes.
        cluster: A profile's file or name.
        flags: Values over the profile's, by key.
        executor: Where the job runs.
        job_name: Name of the job.
        job_dir: Folder of the job's files, with ``%j`` for its id.
        dependency: Jobs to wait for.
        axes: What stood after each ``--sweep``.
        evaluate: Options of an evaluation (``split``, ``tasks``, ``which``, ``report``); None for
            a training.
        force: Whether a run that another job writes to may be submitted.
        dry_run: Whether nothing is to be submitted.
        command: The command line, for the ledger.
        wrong: A line for each flag that cannot be read.
    """

    name: str
    overrides: tuple[str, ...] = ()
    cluster: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    executor: Executor = "slurm"
    job_name: str | None = None
    job_dir: str | None = None
    dependency: str | None = None
    axes: tuple[str, ...] = ()
    evaluate: Mapping[str, Any] | None = None
    force: bool = False
    dry_run: bool = False
    command: str = ""
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Element:
    """One job, or one element of an array.

    Attributes:
        name: Its name in a sweep, empty otherwise.
        run_dir: Absolute path of its run folder.
        task: What it runs.
        steps: Steps of the run, 0 for an evaluation.
    """

    name: str
    run_dir: Path
    task: TrainingJob | EvaluationJob
    steps: int


@dataclass(frozen=True)
class Prepared:
    """What would be submitted, and everything that was found about it.

    Attributes:
        request: What was asked for.
        profile: The profile with the flags over it.
        base: The run folder, or the folder of a sweep: its ``logs`` hold the job's files.
        elements: The jobs; empty where the recipe or the run cannot be read.
        checks: What was looked at.
        errors: A line for each error of recipe, profile and command line.
    """

    request: Request
    profile: Profile
    base: Path
    elements: list[Element]
    checks: list[Check]
    errors: list[str]

    @property
    def refusals(self) -> list[str]:
        """All that keeps it from being submitted."""
        refused = [check for check in self.checks if check.verdict == "refused"]
        return [*self.errors, *(f"{check.subject}: {check.text}" for check in refused)]


def prepare(request: Request) -> Prepared:
    """Read the recipe and the profile, and check both.

    Args:
        request: What was asked for.

    Returns:
        What would be submitted; nothing has been written.
    """
    profile, errors = load_profile(request.cluster, request.flags)
    errors += [*request.wrong, *_word_errors(request)]
    checks: list[Check] = []
    if request.executor != "slurm":
        profile, found = _on_this_machine(request, profile)
        errors += found
    if request.evaluate is not None:
        profile = profile.model_copy(
            update={
                "nodes": (1, 1),
                "tasks_per_node": 1,
                "gpus_per_node": min(1, profile.gpus_per_node),
            }
        )
        run_dir = Path(request.name).absolute()
        task, found_checks, found = evaluation(
            run_dir, request.overrides, request.evaluate, awaited=request.dependency is not None
        )
        base, elements = run_dir, [Element("", run_dir, task, 0)]
        errors += found
        checks += found_checks
        checks += folder_check(run_dir, several_nodes=request.executor == "slurm")
    else:
        base, elements, found_checks, found = _trainings(request, profile)
        errors += found
        checks += found_checks
    if request.executor == "slurm":
        named = {line.split(":")[0].strip() for line in errors}
        if profile.time is not None or FLAGS["time"] not in named:
            checks += time_checks(profile)
        checks += cluster_checks(profile, dry_run=request.dry_run)
        if request.dependency and not any("--dependency" in line for line in errors):
            checks.append(Check("dependency", "ok", f"waits for {request.dependency}"))
    return Prepared(request, profile, base, elements, checks, errors)


def _word_errors(request: Request) -> Iterator[str]:
    """Errors of the flags that are no keys of a profile."""
    if request.dependency is not None:
        try:
            check_dependency(request.dependency)
        except ValueError as error:
            yield f"--dependency: {error} (got {request.dependency!r})"
    for flag, value in (("--name", request.job_name), ("--job-dir", request.job_dir)):
        if value is not None:
            try:
                one_line(value)
            except ValueError as error:
                yield f"{flag}: {error} (got {value!r})"
    if request.executor != "slurm" and request.dependency is not None:
        yield f"--dependency: {request.executor} has no queue to wait in; leave it out"
    if request.evaluate is not None and request.axes:
        yield "--sweep: an evaluation has no sweep; submit one for each run"


def _on_this_machine(request: Request, profile: Profile) -> tuple[Profile, list[str]]:
    """A profile for one machine, or for one process."""
    errors = []
    if "nodes" in request.flags and profile.nodes != (1, 1):
        errors.append(f"{FLAGS['nodes']}: {request.executor} is this machine; leave it out")
    changes: dict[str, Any] = {"nodes": (1, 1)}
    if request.executor == "debug":
        if "tasks_per_node" in request.flags and profile.tasks > 1:
            flag = FLAGS["tasks_per_node"]
            errors.append(f"{flag}: debug is this one process; take --executor local")
        changes |= {"tasks_per_node": 1, "gpus_per_node": min(1, profile.gpus_per_node)}
    return profile.model_copy(update=changes), errors


def _trainings(
    request: Request, profile: Profile
) -> tuple[Path, list[Element], list[Check], list[str]]:
    recipe, errors = _load(request, request.overrides)
    base = Path(recipe.run_dir if recipe else ".").absolute()
    if not request.axes:
        recipes = [("", recipe)]
    else:
        recipes = []
        parts, wrong = sweep.elements(request.axes)
        errors += wrong
        for name, pairs in parts:
            changes = [*request.overrides, *pairs, f"run_dir={base / name}"]
            one, found = _load(request, changes)
            errors += [f"[{name}] {line}" for line in found if line not in errors]
            recipes.append((name, one))
    jobs = ask.queue() if request.executor == "slurm" else None
    elements, checks = [], list[Check]()
    for name, one in recipes:
        if one is None:
            continue
        run_dir = Path(one.run_dir).absolute()
        one = one.model_copy(update={"run_dir": str(run_dir)})
        elements.append(Element(name, run_dir, TrainingJob(one.to_yaml()), one.steps))
        found_checks = [
            *fit_checks(one, profile),
            *folder_check(run_dir, several_nodes=request.executor == "slurm"),
            *data_check(one, waits=request.dependency is not None),
            *progress_checks(run_dir, one, profile),
        ]
        if request.executor == "slurm":
            force = request.force
            found_checks.append(claim_check(run_dir, jobs, request.dependency, force=force))
        if len(elements) > 1:  # of the others only what differs
            found_checks = [c for c in found_checks if c.verdict != "ok" and c not in checks]
            found_checks = [replace(c, subject=f"[{name}] {c.subject}") for c in found_checks]
        checks += found_checks
    return base, elements, checks, errors


_AWAITED = re.compile(r": init\.run: '.*' does not exist")


def _load(request: Request, overrides: Sequence[str]) -> tuple[Recipe | None, list[str]]:
    """Load a recipe; one that is refused for its files alone can still be checked."""
    errors: list[str] = []
    try:
        return load_recipe(request.name, overrides), errors
    except RecipeError as refused:
        errors = refused.lines
    if request.dependency is not None:  # the job it waits for may make it
        errors = [line for line in errors if not _AWAITED.search(line)]
    try:
        return load_recipe(request.name, overrides, check_files=False), errors
    except RecipeError:
        return None, errors
