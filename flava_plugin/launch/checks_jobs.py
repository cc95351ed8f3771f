"""What is looked at before a job is submitted: the user's other jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from flava_plugin.launch import ledger
from flava_plugin.launch.ask import ENDED, Job
from flava_plugin.launch.checks import Check


def claim_check(
    run_dir: Path, jobs: Mapping[str, Job] | None, dependency: str | None, *, force: bool
) -> Check:
    """Look for jobs that write to the run folder, now or later.

    Args:
        run_dir: The run folder.
        jobs: What the controller knows; None where it does not answer.
        dependency: Jobs that this one waits for: they will have left it.
        force: Whether to go on all the same.

    Returns:
        What was found.
    """
    entries, place = ledger.entries(run_dir), run_dir.resolve()
    writers = [e for e in entries if e.work == "train" and e.cluster != "local"]
    mine = [entry.id for entry in writers if Path(entry.run).resolve() == place]
    # A job of slurm/flava.sbatch is in no ledger, but says in its comment where it writes.
    noted = {entry.id for entry in entries}
    for job in (jobs or {}).values():
        where = ledger.run_in(job.comment)
        if job.id not in noted and where is not None and where.resolve() == place:
            mine.append(job.id)
    if not mine:
        return Check("other jobs", "ok", f"none was submitted for {run_dir}")
    if jobs is None:
        return Check("other jobs", "not known", f"squeue does not answer; earlier: {mine[-1]}")
    awaited = _left_by_then(dependency or "")
    active = [jobs[name] for name in mine if name in jobs and jobs[name].state not in ENDED]
    active = [job for job in active if not {job.id, job.id.partition("_")[0]} & awaited]
    if not active:
        return Check("other jobs", "ok", f"of {len(mine)} earlier, none is queued or running")
    text = f"job {active[0].id} of this run is {active[0].state}"
    if force:
        return Check("other jobs", "warning", f"{text}; submitted all the same (--force)")
    way = f"cancel it (scancel {active[0].id}), wait for it (--dependency afterany:{active[0].id})"
    return Check("other jobs", "refused", f"{text}; {way}, or take another run_dir; or --force")


def dependency_check(dependency: str, jobs: Mapping[str, Job] | None) -> Check:
    """Look for the jobs to wait for.

    Args:
        dependency: As sbatch takes it.
        jobs: The user's jobs that the controller knows; None where it does not answer.

    Returns:
        What was found; no refusal, as they may be another user's.
    """
    ids = re.findall(r":([0-9]+(?:_[0-9]+)?)", dependency)
    known = {name for job in jobs or () for name in (job, job.partition("_")[0])}
    unknown = [name for name in ids if name not in known]
    if jobs is not None and unknown:
        text = (
            f"{', '.join(unknown)} is no job of yours that SLURM knows; it waits for no unknown job"
        )
        return Check("dependency", "warning", text)
    return Check("dependency", "ok" if jobs is not None else "not known", f"waits for {dependency}")


def _left_by_then(dependency: str) -> set[str]:
    """Ids of the jobs that have ended, whatever happens, when a dependency is fulfilled."""
    if "?" in dependency:  # one of several is enough
        return set()
    found = set[str]()
    for part in dependency.split(","):
        kind, *ids = part.split(":")
        if kind in ("afterany", "afterok", "afternotok", "aftercorr"):  # "after": has begun
            found |= {name.partition("+")[0] for name in ids}
    return found
