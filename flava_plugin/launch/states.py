"""How jobs stand: from the queue, else from accounting, else from what the run folder shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flava_plugin.launch import ask, ledger
from flava_plugin.launch.ask import ENDED, Job
from flava_plugin.launch.checks_folder import steps_done
from flava_plugin.launch.ledger import Entry
from flava_plugin.launch.local import is_running

GONE = "ended"
"""How the state begins of a job that neither the controller nor accounting knows any more."""

UNKNOWN = "not known"
"""State of a job where the controller does not answer."""

HEADINGS = ("JOB", "RUN", "STATE", "NODES", "ELAPSED", "RESTARTS", "STEP", "REASON")


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
        entry: What was submitted; of a job without a ledger, what its comment says.
        job: What is known of it.
        steps: Steps that its run folder shows, such as ``300/1000``; empty for an evaluation.
    """

    entry: Entry
    job: Job
    steps: str

    @property
    def over(self) -> bool:
        """Whether it has ended, for all that is known."""
        return self.job.state in ENDED or self.job.state.startswith(GONE)

    @property
    def row(self) -> tuple[str, ...]:
        """Its row of the table."""
        job = self.job
        reason = "" if job.reason in ("None", "(null)") else job.reason
        run = self.entry.run + (" (eval)" if self.entry.work == "eval" else "")
        known = (run, job.state, job.nodes or self.entry.nodes, job.elapsed, job.restarts)
        return (job.id, *known, self.steps, reason)


def standings(entries: Sequence[Entry], jobs: Mapping[str, Job] | None) -> list[Standing]:
    """Find out how submitted jobs stand.

    Args:
        entries: The jobs.
        jobs: What the controller knows; None where it does not answer.

    Returns:
        One for each entry, in their order.
    """
    known = dict(jobs or {})
    gone = [entry.id for entry in entries if entry.id not in known and entry.cluster != "local"]
    known |= ask.accounts(gone)
    found = []
    for entry in entries:
        done = steps_done(Path(entry.run))
        steps = f"{done}/{entry.steps}" if entry.steps else ""
        asked = jobs is not None or entry.cluster == "local"
        job = known.get(entry.id) or Job(entry.id, _from_folder(entry, done) if asked else UNKNOWN)
        found.append(Standing(entry, job, steps))
    return found


def _from_folder(entry: Entry, done: int) -> str:
    if entry.cluster == "local" and is_running(Path(entry.folder), entry.id, entry.tasks):
        return "RUNNING"
    if entry.work == "eval":
        return GONE if (Path(entry.run) / "results.json").is_file() else f"{GONE}, no results"
    return f"{GONE}, {done} of {entry.steps} steps"


def of_runs(runs: Sequence[Path]) -> list[Standing]:
    """How the jobs of runs stand, oldest first.

    Args:
        runs: Run folders, or folders of sweeps.

    Returns:
        One for each line of their ledgers.
    """
    found = [entry for run in runs for entry in ledger.entries(run.absolute())]
    return standings(found, ask.queue() if found else None)


def of_entry(entry: Entry) -> Standing:
    """How one job stands.

    Args:
        entry: The job.

    Returns:
        Its standing.
    """
    return standings([entry], ask.queue())[0]


def of_user() -> list[Standing] | None:
    """How the user's jobs stand that the controller still knows; None where it does not answer."""
    jobs = ask.queue()
    if jobs is None:
        return None
    entries = []
    noted: dict[Path, dict[str, Entry]] = {}
    for job in jobs.values():
        run = ledger.run_in(job.comment)
        if run is None:
            continue
        if run not in noted:
            noted[run] = {entry.id: entry for entry in ledger.entries(run)}
        entries.append(noted[run].get(job.id) or _without_ledger(job, run))
    entries.sort(key=lambda entry: [int(n) for n in re.findall(r"\d+", entry.id)])
    return standings(entries, jobs)


def _without_ledger(job: Job, run: Path) -> Entry:
    """What can be said of a job of slurm/flava.sbatch, which keeps no ledger."""
    path = run / "recipe.yaml"
    text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    found = re.search(r"^steps: (\d+)$", text, re.M)
    steps = int(found[1]) if found else 0
    return Entry(job.id, str(run), "train", str(run / "logs"), "", "", "", 1, steps)


def table(found: Sequence[Standing]) -> str:
    """Write standings as a table.

    Args:
        found: The standings.

    Returns:
        A line of headings and one for each, without trailing blanks.
    """
    rows = [HEADINGS, *(standing.row for standing in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
