"""Those of the paper's tasks that a frozen model can do, built on the data under one root."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from flava_plugin import registry
from flava_plugin.evaluate.paper_tasks import TASKS, PaperTask
from flava_plugin.evaluate.tasks import Evaluator

FROZEN = tuple(name for name, task in TASKS.items() if task.kind != "finetuned")
"""22 probes and two retrieval sets; the other eleven need runs of their own."""

_AT_ITS_FOLDER = frozenset({"imagenet", "ucf101_frames"})
"""Builders that take the set's own folder; the others take the root above it."""

_NO_FAULTS = frozenset({"other split", "further caption", "empty line"})
"""What is left out of a set that is whole."""


def wanted(task: PaperTask, root: Path) -> list[Path]:
    """Say what has to be under the data root for a task.

    Args:
        task: A frozen task.
        root: The data root.

    Returns:
        Files and folders.
    """
    folder = root / task.folder
    if task.kind == "retrieval":
        images = folder if task.name == "coco" else folder / "flickr30k-images"
        return [folder / f"dataset_{task.name}.json", images]
    return [folder]


def missing(task: PaperTask, root: Path) -> list[Path]:
    """Find what a task lacks.

    Args:
        task: A frozen task.
        root: The data root.

    Returns:
        Those of ``wanted`` that are not there.
    """
    return [path for path in wanted(task, root) if not path.exists()]


def dataset_of(task: PaperTask, root: Path) -> dict[str, Any]:
    """Describe a task's dataset as a recipe would.

    A set without a published split takes ``ROOT/splits/NAME`` where that is a folder.

    Args:
        task: A frozen task.
        root: The data root.

    Returns:
        ``type`` and options, without the split.
    """
    dataset: dict[str, Any] = {"type": task.dataset, **task.options}
    if task.kind == "retrieval":
        annotations, images = wanted(task, root)
        return dataset | {"path": str(annotations), "images": str(images)}
    dataset["path"] = str(root / task.folder if task.dataset in _AT_ITS_FOLDER else root)
    splits = root / "splits" / task.name
    if splits.is_dir() and "splits" in registry.datasets.schema(task.dataset).model_fields:
        dataset["splits"] = str(splits)
    return dataset


def build(task: PaperTask, root: Path, cache: Path) -> Evaluator:
    """Build the evaluator of a frozen task.

    Args:
        task: A frozen task.
        root: The data root.
        cache: Folder of kept features.

    Returns:
        The evaluator; its figures are shares, not per cents.

    Raises:
        ValueError: The data is damaged or lacks a part.
    """
    options: dict[str, Any] = {"dataset": dataset_of(task, root), "split": "test"}
    if task.kind == "retrieval":
        options |= {"distinct": False, "group": "picture"}
    else:
        options |= {"label": "class", "metric": task.metric, "cache": cache}
        if task.dataset == "imagenet":  # its test labels are not published
            options["split"] = "val"
    name = "retrieval" if task.kind == "retrieval" else "linear_probe"
    return cast(Evaluator, registry.evaluators.build(name, **options))


def datasets_of(evaluator: Any) -> tuple[Any, ...]:
    """Give what a frozen task's figures are a function of besides the model.

    Args:
        evaluator: What ``build`` returned.

    Returns:
        The opened datasets: of a probe the one fitted to and the one measured on.
    """
    return getattr(evaluator, "datasets", None) or (evaluator.dataset,)


def remarks(evaluator: Any) -> str:
    """Say what a reader of a task's figures has to know about its data.

    Args:
        evaluator: What ``build`` returned.

    Returns:
        How the set was divided, and what could not be used of it; or an empty string.
    """
    said = [str(getattr(evaluator, "about", ""))]
    for dataset in datasets_of(evaluator):
        dropped = getattr(dataset, "coverage", {}).get("dropped", {})
        faults = [f"{n} x {reason}" for reason, n in dropped.items() if reason not in _NO_FAULTS]
        if faults:
            said.append(f"{len(dataset)} samples, left out {', '.join(faults)}")
    return "; ".join(filter(None, said))
