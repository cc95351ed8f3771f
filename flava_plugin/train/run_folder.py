"""The run folder: what lies where, who may write to it, and what made it.

recipe.yaml          the recipe, resolved
versions.txt         the software of the latest start
attempt              the token of the process that writes here (see ``claim``)
metrics.jsonl        one line per logged step (train/metrics.py)
evaluations.jsonl    one line per evaluation
balance.jsonl        one line per diagnosis of the objectives' gradients (balance_record.py)
tensorboard/         the same as events
checkpoints/         train/checkpoint.py
summary.json         steps, seconds and samples per second of a finished or stopped run
"""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flava_plugin import durable

PACKAGES = ("flava-plugin", "torch", "torchvision", "torchmultimodal-nightly", "numpy", "pillow")

CHANGEABLE = (
    "steps",
    "run_dir",
    "device",
    "threads",
    "checkpoint",
    "metrics",
    "sharding",
    "evaluate",
    "balance.diagnose",
    "data.per_gpu_batch",
    "data.workers",
    "data.prefetch",
    "data.sources.*.codes",
    "data.sources.*.dataset.cache",
    "data.sources.*.dataset.path",
    "data.sources.*.dataset.selection",
)
"""What may differ when a run goes on: none of it says what is learnt from which data.

Files may have moved: that they are the same ones is seen by their fingerprint (train/data_log.py),
and codes say of what they were made (data/codes.py).
"""


class LostClaimError(RuntimeError):
    """Another process has claimed the run folder since this one did."""


def claim(run_dir: Path) -> str:
    """Make this process the one that writes to the run folder.

    A job that was requeued while its first incarnation still hangs must not have its checkpoints
    moved back by it: the older one finds a token that is not its own and stops (``keep_claim``).

    Args:
        run_dir: The run folder; created.

    Returns:
        The token of this attempt.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    job = os.environ.get("SLURM_JOB_ID")  # a batch script sees by it whose the folder is
    place = f"job{job}-{platform.node()}" if job else platform.node()
    token = f"{place}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    durable.write_text(run_dir / "attempt", token + "\n")
    return token


def keep_claim(run_dir: Path, token: str) -> None:
    """Refuse to go on where a later attempt has claimed the folder.

    Args:
        run_dir: The run folder.
        token: What ``claim`` returned.

    Raises:
        LostClaimError: The folder holds another token.
    """
    path = run_dir / "attempt"
    if not path.is_file() or path.read_text(encoding="utf-8").strip() != token:
        raise LostClaimError(
            f"another process has started this run in {run_dir} since; this one stops and leaves "
            "the checkpoints to it"
        )


def describe(run_dir: Path, recipe_yaml: str) -> None:
    """Write ``recipe.yaml`` and ``versions.txt``.

    Args:
        run_dir: The run folder.
        recipe_yaml: The resolved recipe as YAML.
    """
    durable.write_text(run_dir / "recipe.yaml", recipe_yaml)
    durable.write_text(run_dir / "versions.txt", versions())


def versions() -> str:
    """The software and the machine, a line each.

    Returns:
        Lines ``name version``.
    """
    import torch

    lines = [f"python {platform.python_version()}", f"platform {platform.platform()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} not installed as a package")
    lines.append(f"cpu threads {torch.get_num_threads()} of {os.cpu_count()}")
    if torch.cuda.is_available():
        lines.append(f"gpu {torch.cuda.get_device_name()}, cuda {torch.version.cuda}")
    return "\n".join(lines) + "\n"


def summarise(run_dir: Path, steps: int, seconds: float, samples: int) -> None:
    """Write ``summary.json``.

    Args:
        run_dir: The run folder.
        steps: Optimiser steps done.
        seconds: Seconds of training over all starts of the run.
        samples: Rows seen over all of them.
    """
    rate = samples / seconds if seconds else 0.0
    figures = {"steps": steps, "seconds": round(seconds, 3), "samples_per_s": round(rate, 3)}
    figures_text = json.dumps(figures | {"written": time.strftime("%Y-%m-%dT%H:%M:%S")}, indent=2)
    durable.write_text(run_dir / "summary.json", figures_text + "\n")


def changes(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Name what keeps a recipe from continuing a run.

    Args:
        saved: The recipe in the checkpoint, as plain data.
        current: The recipe now, as plain data.

    Returns:
        A line for each difference that is not in ``CHANGEABLE``.
    """
    before, now = dict(_leaves(saved)), dict(_leaves(current))
    return [
        f"{path}: {_show(before, path)} in the checkpoint, {_show(now, path)} now"
        for path in sorted(before.keys() | now.keys())
        if _show(before, path) != _show(now, path) and not _changeable(path)
    ]


def way_out(run_dir: Path) -> str:
    """Say what to do about ``changes``.

    Args:
        run_dir: The run folder.

    Returns:
        A line.
    """
    return (
        f"{run_dir} holds a checkpoint of a recipe that differs so: undo the change, or set "
        f"another run_dir to start anew; what may change is {', '.join(CHANGEABLE)}"
    )


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _show(leaves: Mapping[str, Any], path: str) -> str:
    return json.dumps(leaves[path]) if path in leaves else "absent"


def _changeable(path: str) -> bool:
    return any(fnmatchcase(path, name) or fnmatchcase(path, f"{name}.*") for name in CHANGEABLE)
