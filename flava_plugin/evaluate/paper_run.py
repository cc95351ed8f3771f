"""Measures a run on the paper's frozen tasks, one file per task, so that it can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from tqdm import tqdm

from flava_plugin import durable
from flava_plugin.data.damage import raise_of_the_machine
from flava_plugin.evaluate.agreement import weights_of
from flava_plugin.evaluate.averages import averages
from flava_plugin.evaluate.content import content_of
from flava_plugin.evaluate.frozen_tasks import FROZEN, build, datasets_of, missing, remarks
from flava_plugin.evaluate.inference import load
from flava_plugin.evaluate.paper_tasks import TASKS, paper_column
from flava_plugin.evaluate.sharing import ALONE, Ranks, first

PAPER_RESULTS = "paper_tasks.json"


def evaluate_paper(
    run_dir: Path,
    root: Path,
    *,
    names: Sequence[str] | None = None,
    checkpoint: str = "latest",
    again: bool = False,
    weights: Literal["auto", "ema", "raw"] = "auto",
    device: str = "auto",
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Measure a run on the paper's tasks whose data is there.

    Each task's figures are written as soon as they are known, to ``paper/NAME.json`` of the run,
    and are taken from there the next time, if the weights, the data root and the samples are the
    same, as far as ``content`` sees samples. A set that is damaged does not end the others.

    Args:
        run_dir: Folder of the run.
        root: Folder of the data sets.
        names: Names of tasks; None takes all that a frozen model can do.
        checkpoint: ``latest``, ``best`` or a number of steps.
        again: Whether to measure anew what is known.
        weights: As for ``inference.load``.
        device: As for ``inference.load``.
        ranks: This process among those that measure together; the first one writes.

    Returns:
        What ``paper_tasks.json`` of the run holds: ``tasks``, figures as shares by task;
        ``not_run``, why by task; ``averages`` in per cent over the tasks measured; ``notes`` on
        splits by task; ``weights`` and ``data``.

    Raises:
        ValueError: There is no such run, checkpoint, folder or task.
    """
    for name in names or ():
        if name not in TASKS:
            raise ValueError(f"no task '{name}' of the paper; it has {', '.join(TASKS)}")
    if not root.is_dir():
        raise ValueError(f"--data: {root}: no such folder; it holds the sets, such as food-101")
    named = weights_of(run_dir, checkpoint)
    folder = run_dir / "paper"
    folder.mkdir(exist_ok=True)
    mark = {"weights": f"{named} {weights}", "data": str(root.resolve())}
    found: dict[str, dict[str, float | int]] = {}
    left_out: dict[str, str] = {}
    notes: dict[str, str] = {}
    flava = None
    place = SimpleNamespace(ranks=ranks)  # there is no model yet where all is known
    shown = True if ranks.rank else None  # None: on a terminal
    with tqdm(names or FROZEN, unit="task", leave=False, disable=shown) as progress:
        for name in progress:
            progress.set_description(f"evaluate {name}")
            task = TASKS[name]
            if task.kind == "finetuned":
                words = " ".join([task.recipe, *task.changes])
                left_out[name] = f"needs a run of its own: flava train {words}"
                continue
            if lacking := missing(task, root):
                left_out[name] = "no " + " and no ".join(map(str, lacking))
                continue
            try:
                evaluator, path = build(task, root, run_dir / "features"), folder / f"{name}.json"
                state = first(place, partial(_state, evaluator, mark))
                kept = None if again else first(place, partial(_kept, path, state))
                if kept is None:
                    flava = flava or load(run_dir, checkpoint, device, weights=weights)
                    flava.ranks = ranks
                    kept = evaluator(flava), remarks(evaluator)
                    facts = {**state, "figures": kept[0], "about": kept[1]}
                    if ranks.rank == 0:
                        durable.write_text(path, json.dumps(facts, indent=2) + "\n")
            except (ValueError, OSError) as refused:  # damaged data; the others do not suffer
                raise_of_the_machine(refused)
                left_out[name] = str(refused)
                continue
            found[name], notes[name] = kept
    means = averages(per_cent(found))
    results: dict[str, Any] = {"tasks": found, "not_run": left_out, "averages": means, **mark}
    results["notes"] = {name: note for name, note in notes.items() if note}
    if ranks.rank == 0:
        durable.write_text(run_dir / PAPER_RESULTS, json.dumps(results, indent=2) + "\n")
    return results


def _state(evaluator: Any, mark: Mapping[str, str]) -> dict[str, str]:
    return {**mark, "samples": " ".join(map(content_of, datasets_of(evaluator)))}


def _kept(path: Path, mark: dict[str, str]) -> tuple[dict[str, float | int], str] | None:
    try:
        kept = json.loads(path.read_text("utf-8"))
        same = all(kept[key] == value for key, value in mark.items())
        figures: dict[str, float | int] = kept["figures"]
        return (figures, str(kept["about"])) if same else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or no file of ours
        return None


def per_cent(tasks: dict[str, dict[str, float | int]]) -> dict[str, dict[str, float]]:
    """Write the paper's figures in per cent.

    Args:
        tasks: Shares by task and figure.

    Returns:
        Per cents of those figures that the paper has.
    """
    return {
        name: {
            figure: 100 * float(figures[figure])
            for figure in TASKS[name].printed
            if figure in figures
        }
        for name, figures in tasks.items()
        if name in TASKS
    }


def paper_table(results: dict[str, Any]) -> str:
    """Lay a run's figures beside the paper's.

    Args:
        results: What ``evaluate_paper`` returned.

    Returns:
        Aligned lines: a figure of a task each, the averages over what was measured, with the
        paper's over the same tasks, and what was not run.
    """
    ours = per_cent(results["tasks"])
    columns = {name: paper_column(name) for name in ("flava", "clip_pmd", "clip_400m")}
    lines: list[tuple[str, ...]] = [
        ("task", "figure", "this run", "FLAVA", "CLIP (PMD)", "CLIP (400M)")
    ]
    for name, figures in ours.items():
        for figure, value in figures.items():
            printed = [f"{column[name][figure]:.2f}" for column in columns.values()]
            lines.append((name, figure, f"{value:.2f}", *printed))
    means = {name: averages(column, ours) for name, column in columns.items()}
    for group, value in averages(ours).items():
        printed = [f"{mean[group]:.2f}" for mean in means.values()]
        count = sum(len(ours[n]) for n in ours if TASKS[n].group == group) or sum(
            map(len, ours.values())
        )
        lines.append((f"mean {group}", f"of {count} figures", f"{value:.2f}", *printed))
    widths = [max(len(line[place]) for line in lines) for place in range(6)]
    text = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text += [f"note: {name}: {note}" for name, note in results.get("notes", {}).items()]
    text += [f"not run: {name}: {why}" for name, why in results["not_run"].items()]
    return "\n".join(text)
