"""What is looked at before a job is submitted: paths, and what the run folder holds already."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flava_plugin.launch.checks import Check
from flava_plugin.launch.cluster import FLAGS, Profile
from flava_plugin.launch.cluster_values import clock
from flava_plugin.recipe import Recipe
from flava_plugin.train import run_folder

LONGEST_NAME = 255
"""Bytes of a file's name on Linux's file systems."""

OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - named, not written to


def folder_check(run_dir: Path, *, several_nodes: bool) -> Iterator[Check]:
    """Look at where the run will be written.

    Args:
        run_dir: Absolute path of the run folder; it need not exist.
        several_nodes: Whether other machines than this one write there.

    Yields:
        Check: What was found.
    """
    wrong = f"{run_dir} holds a $, which a job would expand" if "$" in str(run_dir) else None
    wrong = wrong or (cannot_hold_logs(run_dir) if several_nodes else None)
    wrong = wrong or cannot_write(run_dir) or cannot_write(run_dir / "logs")
    if wrong:
        yield Check("run_dir", "refused", f"{wrong}; choose another run_dir")
        return
    local = [place for place in OF_ONE_NODE if run_dir.is_relative_to(place)]
    if local and several_nodes:
        text = f"{run_dir} looks local to one machine ({local[0]}); the nodes have to see it"
        yield Check("run_dir", "warning", f"{text}: take a shared path")
    else:
        yield Check("run_dir", "ok", f"{run_dir} can be written to")


def job_dir_check(text: str) -> Iterator[Check]:
    """Look at a folder of jobs' files that is not the run's.

    Args:
        text: The folder as it was typed, with or without ``%j``.

    Yields:
        Check: What was found.
    """
    folder = Path(text).expanduser().absolute()
    above = Path(str(folder).partition("%j")[0]) if "%j" in text else folder
    wrong = cannot_hold_logs(Path(str(folder).replace("%j", ""))) or cannot_write(above)
    if wrong:
        yield Check("--job-dir", "refused", f"{wrong}; choose another folder")
    else:
        yield Check("--job-dir", "ok", f"{folder} can be written to")


def cannot_hold_logs(folder: Path) -> str | None:
    """Whether SLURM would take a part of a path for something else in the name of a log.

    Args:
        folder: The path.

    Returns:
        What is wrong with it; None for nothing.
    """
    text = str(folder)
    if set("%\\") & set(text) or not text.isprintable():
        return f"{text!r} holds a %, a backslash or a control character, which SLURM's logs cannot"
    return None


def cannot_write(folder: Path) -> str | None:
    """Whether a folder cannot be made or written to.

    Args:
        folder: An absolute path; it need not exist.

    Returns:
        What is wrong with it; None for nothing.
    """
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in folder.parts):
            return f"{folder} has a name of over {LONGEST_NAME} bytes"
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not nearest.is_dir():
        return f"{nearest} is a file"
    # In /proc even root, who may write everywhere else, makes no folder.
    if not os.access(nearest, os.W_OK | os.X_OK) or nearest.is_relative_to("/proc"):
        return f"{nearest} cannot be written to"
    return None


def data_check(recipe: Recipe, *, awaits: Callable[[Path], bool]) -> Iterator[Check]:
    """Say which paths the recipe reads; that they exist was checked with the recipe.

    Args:
        recipe: The recipe.
        awaits: Whether another job, which this one waits for, may make a run that ``init`` names.

    Yields:
        Check: What was found.
    """
    for key, start in recipe.init.runs.items() if recipe.init else ():
        if (start / "checkpoints" / "latest").is_file():
            yield Check(key, "ok", f"{start} holds a checkpoint")
        elif awaits(start):
            text = f"{start} holds no checkpoint yet; the job this one waits for has to make it"
            yield Check(key, "not known", text)
        else:
            way = "give --dependency afterok:ID of the job that makes it"
            yield Check(key, "refused", f"{start} holds no checkpoint yet; {way}")
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
        step = int(newest)
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
            yield Check("checkpoint", "ok", f"goes on from step {step} of {recipe.steps}")
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
