"""``flava jobs`` and ``flava logs``: how submitted runs stand, and what they print."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the commands to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    jobs = commands.add_parser(
        "jobs",
        help="how submitted runs stand",
        description="State of jobs from squeue, else sacct, else the run folder.",
    )
    jobs.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="default: all in the queue")
    jobs.set_defaults(run=run_jobs)

    logs = commands.add_parser("logs", help="what a submitted run prints")
    logs.add_argument("run_dir", type=Path, metavar="RUN", help="a run folder")
    logs.add_argument("--rank", type=_rank, default=0, help="which process (%(default)s)")
    logs.add_argument("--job", help="id of the job (the latest)")
    logs.add_argument("--out", action="store_true", help="only stdout")
    logs.add_argument("--err", action="store_true", help="only stderr")
    logs.add_argument("--follow", "-f", action="store_true", help="go on until the job has ended")
    logs.set_defaults(run=run_logs)


def _rank(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no number of a process: 0, 1, ...")
    return int(text)


def run_jobs(arguments: argparse.Namespace) -> int:
    """Print the table of jobs.

    Args:
        arguments: Has ``runs``.

    Returns:
        0; 1 where the queue does not answer, 2 for a folder of which no job is known.
    """
    from flava_plugin.launch import states

    unknown = [run for run in arguments.runs if not (run / "logs" / "jobs.jsonl").is_file()]
    for run in unknown:
        print(f"{run}: no job was submitted for it (no logs/jobs.jsonl)", file=sys.stderr)
    if unknown:
        return 2
    found = states.of_runs(arguments.runs) if arguments.runs else states.of_user()
    if found is None:
        print("flava jobs: squeue does not answer; name the runs: flava jobs RUN", file=sys.stderr)
        return 1
    print(states.table(found))
    return 0


def run_logs(arguments: argparse.Namespace) -> int:
    """Print the log of one process of a job.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0; 1 where there is no log yet, 2 where no such job or process is known.
    """
    from flava_plugin.launch import follow, ledger, states

    run: Path = arguments.run_dir
    entries = ledger.entries(run)
    # Of an array's own id the last element, as of a sweep's folder.
    known_as = [{None, entry.id, entry.id.partition("_")[0]} for entry in entries]
    chosen = [entry for entry, ids in zip(entries, known_as, strict=True) if arguments.job in ids]
    if not entries:
        print(f"{run}: no job was submitted for it (no logs/jobs.jsonl)", file=sys.stderr)
        return 2
    if not chosen:
        known = ", ".join(entry.id for entry in entries)
        print(f"{run}: no job '{arguments.job}' of it; known: {known}", file=sys.stderr)
        return 2
    entry = follow.where_it_lies_now(chosen[-1], run)
    rank = arguments.rank
    kinds = [kind for kind in ("out", "err") if getattr(arguments, kind)] or ["out", "err"]
    files = follow.log_files(entry, rank, kinds)
    tail = follow.Tail(files, sys.stdout.write)
    if arguments.follow:
        try:
            follow.follow(tail, lambda: states.of_entry(entry).over)
        except KeyboardInterrupt:
            return 130
        return 0
    if not any(path.is_file() for path in files):
        ranks = ", ".join(map(str, follow.ranks(entry)))
        there = f"; there are logs of {ranks}" if ranks else "; it has not started"
        print(f"{run}: job {entry.id} has no log of process {rank}{there}", file=sys.stderr)
        return 1
    tail.show(to_the_end=True)
    return 0
