"""Training runs on ``shapes`` whose figures stay in JSON lines, so that a stopped bench goes on."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RECIPES = {
    "flava": "pretrain/shapes",
    "clip": "pretrain/clip_shapes",
    "align": "pretrain/align_shapes",
}
"""Recipe by model."""

ENCODERS = {"mim": "pretrain/mim_shapes", "mlm": "pretrain/mlm_shapes"}
"""Recipe by the objective that trains an encoder alone."""

RETRIEVAL = {
    "retrieval.image_to_text_r1": "image to text R@1",
    "retrieval.image_to_text_r5": "image to text R@5",
    "retrieval.text_to_image_r1": "text to image R@1",
    "retrieval.text_to_image_r5": "text to image R@5",
    "zero_shot.unseen_combinations": "zero-shot, unseen combinations",
}
"""Figures that every model can have, and how a table calls them."""


@dataclass(frozen=True)
class Trial:
    """A run to be trained and measured.

    Attributes:
        model: A key of ``RECIPES`` or ``ENCODERS``.
        seed: Of the run.
        steps: Optimiser steps.
        about: What else names the run, such as the size of its data.
        changes: Of the recipe, ``key=value``.
    """

    model: str
    seed: int
    steps: int
    about: str
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of its folder and of its line."""
        return f"{self.model}-{self.about}-{self.steps}-{self.seed}"


def options(text: str | None, steps: int) -> argparse.ArgumentParser:
    """Make the parser of a bench.

    Args:
        text: What it does.
        steps: Default of ``--steps``.

    Returns:
        A parser with the options that all have.
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in every run")
    parser.add_argument("--split", default="publish", help="that is measured on")
    return parser


def flava(*words: str) -> None:
    """Run a command of ours; what it says of an error is shown.

    Args:
        *words: What follows ``flava``.
    """
    subprocess.run([sys.executable, "-m", "flava_plugin", *words], check=True, stdout=sys.stderr)


def tasks_of(recipe: str) -> list[str]:
    """Write a recipe's tasks as changes, so that another model is asked the same.

    Args:
        recipe: Name of a recipe.

    Returns:
        A ``key=value`` for each task.
    """
    path = Path(__file__).resolve().parents[3] / "recipes" / f"{recipe}.yaml"
    tasks = yaml.safe_load(path.read_text())["evaluate"]["tasks"]
    return [f"evaluate.tasks.{name}={json.dumps(spec)}" for name, spec in tasks.items()]


def measured(trial: Trial, arguments: argparse.Namespace, tasks: Sequence[str]) -> dict[str, Any]:
    """Train and measure a run, or read what an earlier start has measured.

    A run that was stopped goes on from its checkpoint; one that is measured leaves a line in
    ``measured.jsonl`` of the folder.

    Args:
        trial: The run.
        arguments: With ``folder``, ``threads`` and ``split``.
        tasks: ``key=value`` of every task.

    Returns:
        The line: what names the run, ``seconds`` of training, ``parameters``, ``figures`` by
        ``task.figure``, and ``cannot``, the tasks that the model has no part for.
    """
    key = f"{trial.name}-{arguments.split}"
    line = kept(arguments.folder, key)
    if line is not None:
        return line
    run_dir = arguments.folder / trial.name
    train(trial, arguments)
    flava("eval", str(run_dir), "--no-report", "--split", arguments.split, *tasks)
    results = json.loads((run_dir / "results.json").read_text())
    found = {name: told for name, told in results.items() if isinstance(told, dict)}
    seconds = found.pop("seconds")["train"]
    line = {
        "model": trial.model,
        "about": trial.about,
        "seed": trial.seed,
        "steps": trial.steps,
        "split": arguments.split,
        "seconds": seconds,
        "parameters": parameters(run_dir),
        "figures": {
            f"{task}.{figure}": value
            for task, told in found.items()
            for figure, value in told.items()
            if isinstance(value, float)
        },
        "cannot": sorted(task for task, told in found.items() if "cannot" in told),
    }
    return keep(arguments.folder, key, line)


def train(trial: Trial, arguments: argparse.Namespace) -> None:
    """Train a run in its folder, from its newest checkpoint.

    Args:
        trial: The run.
        arguments: With ``folder`` and ``threads``.
    """
    flava(
        "train",
        (RECIPES | ENCODERS)[trial.model],
        f"run_dir={arguments.folder / trial.name}",
        f"seed={trial.seed}",
        f"steps={trial.steps}",
        f"threads={arguments.threads}",
        "metrics.tensorboard=false",
        "checkpoint.keep=1",
        *trial.changes,
    )


def pace(model: str, arguments: argparse.Namespace, steps: tuple[int, int] = (20, 120)) -> float:
    """Measure what a step of a model costs, or read what an earlier start has measured.

    In processor time, which other work on the machine changes little, and as the difference of two
    runs, so that their starts do not count.

    Args:
        model: A key of ``RECIPES``.
        arguments: With ``folder`` and ``threads``.
        steps: Of a short and of a longer run.

    Returns:
        Seconds of all processes of the run: training, and reading beside it.
    """
    line = kept(arguments.folder, f"pace-{model}")
    if line is None:
        spent = []
        for number in steps:
            trial = Trial(model, 0, number, "pace")
            shutil.rmtree(arguments.folder / trial.name, ignore_errors=True)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            train(trial, arguments)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            spent.append(used)
        seconds = (spent[1] - spent[0]) / (steps[1] - steps[0])
        line = keep(arguments.folder, f"pace-{model}", {"model": model, "seconds_a_step": seconds})
    return float(line["seconds_a_step"])


def kept(folder: Path, name: str) -> dict[str, Any] | None:
    """Read a line of ``measured.jsonl``.

    Args:
        folder: Where it is.
        name: The line's.

    Returns:
        The line, None where there is none; half a line, of a bench that was killed, is none.
    """
    lines = folder / "measured.jsonl"
    for text in lines.read_text().splitlines() if lines.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["name"] == name:
            return dict(line)
    return None


def keep(folder: Path, name: str, line: dict[str, Any]) -> dict[str, Any]:
    """Add a line to ``measured.jsonl``.

    Args:
        folder: Where it is.
        name: The line's.
        line: What was measured.

    Returns:
        The line as it stands there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {"name": name, **line}
    with (folder / "measured.jsonl").open("a") as file:
        file.write(json.dumps(written) + "\n")
    return written


def parameters(run_dir: Path) -> dict[str, int]:
    """Count a run's parameters.

    Args:
        run_dir: Folder of the run.

    Returns:
        Of the image and text encoder, and of everything.
    """
    import flava_plugin

    learner = flava_plugin.load(run_dir, device="cpu").learner
    backbone = learner.backbone
    parts = {"image": backbone.image_encoder, "text": backbone.text_encoder, "all": learner}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def spread(lines: Iterable[Mapping[str, Any]], figure: str) -> tuple[float, float] | None:
    """Mean of a figure over seeds and its standard error.

    Args:
        lines: Of one model's runs.
        figure: ``task.figure``.

    Returns:
        Both, the error NaN with one seed; None where the model cannot do the task.
    """
    values = [line["figures"][figure] for line in lines if figure in line["figures"]]
    if not values:
        return None
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.fmean(values), error


def cell(found: tuple[float, float] | None) -> str:
    """Write a figure.

    Args:
        found: Of ``spread``.

    Returns:
        Such as ``0.512 ± 0.010``, or ``-``.
    """
    return "-" if found is None else f"{found[0]:.3f} ± {found[1]:.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table of Markdown.

    Args:
        head: Its columns.
        rows: Its lines.

    Returns:
        The table.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
