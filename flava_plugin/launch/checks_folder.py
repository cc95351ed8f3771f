"""What is looked at before a job is submitted: paths, and what the run folder holds already."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flava_plugin.launch import ledger
from flava_plugin.launch.ask import ACTIVE, Job
from flava_plugin.launch.checks import Check
from flava_plugin.launch.cluster import FLAGS, Profile
from flava_plugin.launch.cluster_values import clock
from flava_plugin.recipe import Recipe
from flava_plugin.train import run_folder

OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - named, not written to


def folder_check(run_dir: Path, *, several_nodes: bool) -> Iterator[Check]:
    """Look at where the run will be written.

    Args:
        run_dir: Absolute path of the run folder; it need not exist.
        several_nodes: Whether other machines than this one write there.

    Yields:
        Check: What was found.
    """
    if several_nodes and ("%" in str(run_dir) or not str(run_dir).isprintable()):
        text = f"{str(run_dir)!r} holds a % or a control character, which SLURM's logs cannot"
        yield Check("run_dir", "refused", f"{text}; choose another run_dir")
        return
    nearest = next(path for path in (run_dir, *run_dir.parents) if path.exists())
    if not nearest.is_dir():
        yield Check("run_dir", "refused", f"{nearest} is a file; choose another run_dir")
        return
    logs = run_dir / "logs"
    for place in (nearest, logs) if logs.exists() else (nearest,):
        if not os.access(place, os.W_OK | os.X_OK):
            text = f"{place} cannot be written to; choose another run_dir, or change its rights"
            yield Check("run_dir", "refused", text)
            return
    local = [place for place in OF_ONE_NODE if run_dir.is_relative_to(place)]
    if local and several_nodes:
        text = f"{run_dir} looks local to one machine ({local[0]}); the nodes have to see it"
        yield Check("run_dir", "warning", f"{text}: take a shared path")
    else:
        yield Check("run_dir", "ok", f"{run_dir} can be written to")


def data_check(recipe: Recipe, *, waits: bool) -> Iterator[Check]:
    """Say which paths the recipe reads; that they exist was checked with the recipe.

    Args:
        recipe: The recipe.
        waits: Whether the job waits for another one, which may make what ``init.run`` names.

    Yields:
        Check: What was found.
    """
    if recipe.init and recipe.init.run:
        start = recipe.init.run
        if (start / "checkpoints" / "latest").is_file():
            yield Check("init.run", "ok", f"{start} holds a checkpoint")
        elif waits:
            text = f"{start} holds no checkpoint yet; the job this one waits for has to make it"
            yield Check("init.run", "not known", text)
        else:
            way = "give --dependency afterok:ID of the job that makes it"
            yield Check("init.run", "refused", f"{start} holds no checkpoint yet; {way}")
    found = sorted({path for path in _texts(recipe.model_dump(mode="json")) if _is_path(path)})
    local = [path for path in found if any(Path(path).is_relative_to(p) for p in OF_ONE_NODE)]
    if local:
        text = f"{', '.join(local[:3])} looks local to one machine; the nodes have to see it"
        yield Check("data", "warning", text)
    else:
        yield Check("data", "ok", f"visible here: {', '.join(found) or 'no files are read'}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key != "run_dir":
                yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield os.path.expandvars(value)


def _is_path(text: str) -> bool:
    return os.sep in text and len(text) < 4096 and "\0" not in text and Path(text).exists()


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
    entries = [e for e in ledger.entries(run_dir) if e.work == "train" and e.cluster != "local"]
    mine = [entry.id for entry in entries if Path(entry.run) == run_dir]
    if not mine:
        return Check("other jobs", "ok", f"none was submitted for {run_dir}")
    if jobs is None:
        return Check("other jobs", "not known", f"squeue does not answer; earlier: {mine[-1]}")
    awaited = set((dependency or "").replace(",", ":").replace("?", ":").split(":"))
    active = [jobs[name] for name in mine if name in jobs and jobs[name].state in ACTIVE]
    active = [job for job in active if not {job.id, job.id.partition("_")[0]} & awaited]
    if not active:
        return Check("other jobs", "ok", f"of {len(mine)} earlier, none is queued or running")
    text = f"job {active[0].id} of this run is {active[0].state}"
    if force:
        return Check("other jobs", "warning", f"{text}; submitted all the same (--force)")
    way = f"cancel it (scancel {active[0].id}), wait for it (--dependency afterany:{active[0].id})"
    return Check("other jobs", "refused", f"{text}; {way}, or take another run_dir; or --force")


def progress_checks(run_dir: Path, recipe: Recipe, profile: Profile) -> Iterator[Check]:
    """Look at what the run folder holds, and how long its steps took.

    Args:
        run_dir: The run folder.
        recipe: The recipe to go on with.
        profile: The profile.

    Yields:
        Check: What was found.
    """
    root = run_dir / "checkpoints"
    try:
        newest = (root / "latest").read_text("utf-8").strip()
        saved = json.loads((root / newest / "state.json").read_text("utf-8"))["recipe"]
        changed = run_folder.changes(saved, recipe.model_dump(mode="json"))
    except (OSError, ValueError, KeyError, TypeError):
        there = root.is_dir() and any(path.name.isdigit() for path in root.iterdir())
        text = f"{root} cannot be read" if there else "none yet: the run starts at step 0"
        yield Check("checkpoint", "not known" if there else "ok", text)
    else:
        if changed:
            text = f"{run_dir} holds one of a recipe that differs: {'; '.join(changed)}"
            way = "undo the change, or set another run_dir"
            yield Check("checkpoint", "refused", f"{text}; {way}")
        else:
            yield Check("checkpoint", "ok", f"goes on from step {int(newest)} of {recipe.steps}")
    yield _pace(run_dir, recipe, profile)


def _pace(run_dir: Path, recipe: Recipe, profile: Profile) -> Check:
    """Whether a walltime lasts for a checkpoint, and the signal's delay for a step."""
    seconds = seconds_per_step(run_dir)
    if seconds is None or profile.time is None:
        return Check("pace", "not known", "the run folder does not say yet how long a step takes")
    every, delay = recipe.checkpoint.every, profile.signal_delay_s
    text = f"{seconds:.3g} s per step so far, a checkpoint every {every * seconds:.0f} s"
    if seconds > delay:
        way = f"give a {FLAGS['signal_delay_s']} above it"
        return Check(
            "pace", "warning", f"{text}; a step outlasts the {delay} s left to save: {way}"
        )
    if every * seconds > profile.time * 60 - delay:
        limit = clock(profile.time)
        way = "a node that fails would cost all of a job's work: lower checkpoint.every"
        return Check("pace", "warning", f"{text}, more than the walltime {limit}; {way}")
    return Check("pace", "ok", text)


def seconds_per_step(run_dir: Path) -> float | None:
    """How long a step took, over all starts of the run.

    Args:
        run_dir: The run folder.

    Returns:
        Seconds; None where the run has not said yet.
    """
    try:
        summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
        return float(summary["seconds"]) / int(summary["steps"]) or None
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


def steps_done(run_dir: Path) -> int:
    """Steps that the run folder shows: of the newest line of metrics, or of the summary.

    Args:
        run_dir: The run folder.

    Returns:
        The number, 0 where nothing is there.
    """
    found = [0]
    for name in ("summary.json", "metrics.jsonl"):
        key = "steps" if name == "summary.json" else "step"
        try:
            with (run_dir / name).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
                text = file.read().decode("utf-8", errors="replace")
            last = text if key == "steps" else text.splitlines()[-1 if text.endswith("\n") else -2]
            found.append(int(json.loads(last)[key]))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue
    return max(found)
