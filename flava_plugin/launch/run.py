"""Submits what was prepared: to SLURM, to this machine, or to this process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flava_plugin.launch import executors, ledger
from flava_plugin.launch.batch_script import setup_lines, teardown_lines
from flava_plugin.launch.job import EvaluationJob, TrainingJob, perform
from flava_plugin.launch.ledger import Entry
from flava_plugin.launch.local import run_local
from flava_plugin.launch.submission import Element, Prepared


def folder_of(prepared: Prepared) -> Path:
    """Where submitit keeps the jobs' files.

    Args:
        prepared: What will be submitted.

    Returns:
        An absolute path with ``%j`` for the id; of local jobs also with the time, as their ids,
        which are process ids, come again.
    """
    chosen = prepared.request.job_dir
    folder = Path(chosen).expanduser().absolute() if chosen else prepared.base / "logs"
    if prepared.request.executor == "local":
        return folder / f"local-{time.strftime('%Y%m%d-%H%M%S')}-%j"
    return folder if "%j" in str(folder) else folder / "%j"


def batch_scripts(chain: Sequence[Prepared]) -> list[str]:
    """The batch scripts that sbatch would get.

    Args:
        chain: What would be submitted; each profile has a time.

    Returns:
        The texts; a later one waits for ``JOB1`` and so on, whose numbers are not known yet.
    """
    scripts = []
    for place, prepared in enumerate(chain):
        values = _parameters(_waiting(prepared, f"JOB{place}") if place else prepared)
        folder, count = folder_of(prepared), len(prepared.elements)
        scripts.append(executors.script(values, folder, prepared.profile.python, count))
    return scripts


def submit_chain(chain: Sequence[Prepared]) -> Iterator[tuple[Prepared, str]]:
    """Put jobs into SLURM's queue, each to begin when the one before it has succeeded.

    Args:
        chain: What was found without refusals.

    Yields:
        tuple[Prepared, str]: Each with the id of its job.

    Raises:
        SubmitError: sbatch refused one; those before it are queued.
    """
    job = ""
    for prepared in chain:
        job = submit(_waiting(prepared, job) if job else prepared)
        yield prepared, job


def _waiting(prepared: Prepared, job: str) -> Prepared:
    return replace(prepared, request=replace(prepared.request, dependency=f"afterok:{job}"))


def _parameters(prepared: Prepared) -> dict[str, object]:
    request, profile = prepared.request, prepared.profile
    trainings = request.evaluate is None
    runs = [element.run_dir for element in prepared.elements] if trainings else []
    kind = "flava-" if trainings else "flava-eval-"
    return executors.parameters(
        profile,
        name=request.job_name or kind + prepared.base.name,
        comment=ledger.comment_of(prepared.base, profile.comment),
        dependency=request.dependency,
        setup=setup_lines(profile, runs),
        teardown=teardown_lines(profile, runs),
    )


def submit(prepared: Prepared) -> str:
    """Put the jobs into SLURM's queue.

    Args:
        prepared: What was found without refusals.

    Returns:
        The id that others can depend on: of the job, or of the array.

    Raises:
        SubmitError: sbatch refused.
    """
    folder, profile = folder_of(prepared), prepared.profile
    tasks = [element.task for element in prepared.elements]
    ids = executors.submit(
        tasks,
        _parameters(prepared),
        folder,
        python=profile.python,
        requeues=profile.requeues,
    )
    try:
        for name, element in zip(ids, prepared.elements, strict=True):
            _note(prepared, element, name, Path(str(folder).replace("%j", name)))
    except OSError as error:  # the job is in the queue, and whoever waits for its id has to get it
        sys.stderr.write(f"warning    jobs.jsonl: {error}; flava jobs RUN will not know the job\n")
    return ids[0].partition("_")[0]


def _note(prepared: Prepared, element: Element, name: str, folder: Path) -> None:
    request, (least, most) = prepared.request, prepared.profile.nodes
    entry = Entry(
        id=name,
        run=str(element.run_dir),
        work="eval" if request.evaluate is not None else "train",
        folder=str(folder),
        command=request.command,
        cluster=request.cluster or "" if request.executor == "slurm" else request.executor,
        nodes=str(most) if least == most else f"{least}-{most}",
        tasks=prepared.profile.tasks,
        steps=element.steps,
    )
    for place in {prepared.base, element.run_dir}:
        ledger.note(place, entry)


def run_here(prepared: Prepared) -> int:
    """Run the jobs on this machine, one after the other, to their end.

    Args:
        prepared: What was found without refusals.

    Returns:
        The exit code of the first that failed, 0 for none.
    """
    for element in prepared.elements:
        if len(prepared.elements) > 1:
            sys.stderr.write(f"flava: {element.name}\n")
        if prepared.request.executor == "debug":
            code = _debug(element.task, prepared)
        else:
            code = _local(element, prepared)
        if code:
            return code
    return 0


def _local(element: Element, prepared: Prepared) -> int:
    folder = folder_of(prepared)

    def started(job: str) -> None:
        _note(prepared, element, job, Path(str(folder).replace("%j", job)))

    return run_local(element.task, prepared.profile, folder, started)


def _debug(task: TrainingJob | EvaluationJob, prepared: Prepared) -> int:
    """Do a job's work in this process; an unforeseen error leaves its traceback, or a debugger."""
    wanted = prepared.profile.environment
    kept = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        perform(task.work, executors.Place())
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    finally:
        for name, text in kept.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text
    return 0
