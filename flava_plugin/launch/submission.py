"""From a command line to jobs: everything is read and checked before anything is submitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flava_plugin.launch import ask
from flava_plugin.launch.checks import Check, fit_checks, time_checks
from flava_plugin.launch.checks_cluster import cluster_checks, shell_checks
from flava_plugin.launch.checks_folder import (
    data_check,
    folder_check,
    job_dir_check,
    progress_checks,
)
from flava_plugin.launch.checks_jobs import claim_check, dependency_check
from flava_plugin.launch.cluster import FLAGS, Profile, load_profile
from flava_plugin.launch.cluster_values import dependency as check_dependency
from flava_plugin.launch.cluster_values import one_line
from flava_plugin.launch.evaluation import evaluation
from flava_plugin.launch.job import EvaluationJob, TrainingJob
from flava_plugin.launch.loading import Loaded, load, load_sweep
from flava_plugin.recipe import Recipe

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
        evaluate: Options of an evaluation, such as ``split`` (``measuring.Evaluation``); None for
            a training.
        earlier: The trainings before it in a chain, by run folder, which it waits for.
        origin: That of them which a training starts from.
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
    earlier: Mapping[Path, Recipe] = field(default_factory=dict)
    origin: Recipe | None = None
    force: bool = False
    dry_run: bool = False
    command: str = ""
    wrong: tuple[str, ...] = ()

    def awaits(self, run: Path) -> bool:
        """Say whether a job that it waits for may make a run.

        Args:
            run: The run's folder.

        Returns:
            True for a run of the chain, and for any where it waits for jobs by their ids.
        """
        return self.dependency is not None or run.absolute() in self.earlier


@dataclass(frozen=True)
class Element:
    """One job, or one element of an array.

    Attributes:
        name: Its name in a sweep, empty otherwise.
        run_dir: Absolute path of its run folder.
        task: What it runs.
        steps: Steps of the run, 0 for an evaluation.
        recipe: What is trained; None for an evaluation.
    """

    name: str
    run_dir: Path
    task: TrainingJob | EvaluationJob
    steps: int
    recipe: Recipe | None = None


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
    profile, errors, malformed = load_profile(request.cluster, request.flags)
    errors += [*request.wrong, *_word_errors(request)]
    checks: list[Check] = []
    jobs = ask.queue() if request.executor == "slurm" else None
    if request.executor != "slurm":
        profile, found = _on_this_machine(request, profile)
        errors += found
    if request.evaluate is not None:
        run_dir = Path(request.name).absolute()
        task, found_checks, found = evaluation(
            run_dir,
            request.overrides,
            request.evaluate,
            profile,
            awaited=request.awaits(run_dir),
            recipe=request.earlier.get(run_dir),
        )
        base, elements = run_dir, [Element("", run_dir, task, 0)]
        errors += found
        checks += found_checks
        checks += folder_check(run_dir, several_nodes=request.executor == "slurm")
    else:
        base, elements, found_checks, found = _trainings(request, profile, malformed, jobs)
        errors += found
        checks += found_checks
    if request.executor == "slurm":
        if not malformed & {"time", "signal_delay_s"}:
            checks += time_checks(profile)
        checks += cluster_checks(profile, dry_run=request.dry_run)
        checks += shell_checks(profile)
        if request.job_dir is not None and not any("--job-dir" in line for line in errors):
            checks += job_dir_check(request.job_dir)
        if request.dependency and not any("--dependency" in line for line in errors):
            checks.append(dependency_check(request.dependency, jobs))
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
    request: Request,
    profile: Profile,
    malformed: frozenset[str],
    jobs: Mapping[str, ask.Job] | None,
) -> tuple[Path, list[Element], list[Check], list[str]]:
    origin = request.origin
    recipe, errors, left_out = load(
        request.name,
        request.overrides,
        awaits=request.awaits,
        origin=None if origin is None else origin.model_dump(mode="json"),
    )
    base = Path(recipe.run_dir if recipe else ".").absolute()
    recipes: list[Loaded] = [("", recipe, left_out)]
    if request.axes:
        recipes, found = load_sweep(
            request.name, request.overrides, request.axes, base, awaits=request.awaits
        )
        errors += [line for line in found if line.partition("] ")[2] not in errors]
    elements, checks, said = [], list[Check](), set[tuple[str, str]]()
    for name, one, left_out in recipes:
        if one is None:
            continue
        run_dir = Path(one.run_dir).absolute()
        one = one.model_copy(update={"run_dir": str(run_dir)})
        elements.append(Element(name, run_dir, TrainingJob(one.to_yaml()), one.steps, one))
        for check in _looks(request, one, profile, malformed, left_out, jobs):
            what = (check.subject, check.text.replace(str(run_dir), ""))
            if len(elements) == 1:
                checks.append(check)
            elif check.verdict != "ok" and what not in said:  # of the others only what differs
                checks.append(replace(check, subject=f"[{name}] {check.subject}"))
            said.add(what)
    return base, elements, checks, errors


def _looks(
    request: Request,
    recipe: Recipe,
    profile: Profile,
    malformed: frozenset[str],
    left_out: frozenset[str],
    jobs: Mapping[str, ask.Job] | None,
) -> Iterator[Check]:
    """Look at one run; not at what a malformed value of the recipe or the profile hides."""
    yield from fit_checks(recipe, profile, malformed | left_out)
    yield from data_check(recipe, awaits=request.awaits)
    if "run_dir" in left_out:
        return
    run_dir, on_slurm = Path(recipe.run_dir), request.executor == "slurm"
    folder = list(folder_check(run_dir, several_nodes=on_slurm))
    yield from folder
    if any(check.verdict == "refused" for check in folder):
        return
    if not left_out:
        yield from progress_checks(run_dir, recipe, profile)
    if on_slurm:
        yield claim_check(run_dir, jobs, request.dependency, force=request.force)
