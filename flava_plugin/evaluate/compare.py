"""What one run has over another, figure by figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flava_plugin.evaluate.paper_run import PAPER_RESULTS
from flava_plugin.evaluate.report import read_json


def figures_of(run_dir: Path) -> dict[tuple[str, str], float]:
    """Read every figure a run has been measured by.

    Args:
        run_dir: Folder of the run.

    Returns:
        Figures by task and name, of ``results.json`` and ``paper_tasks.json``.

    Raises:
        ValueError: The run was not evaluated.
    """
    paper: Mapping[str, Any] = read_json(run_dir / PAPER_RESULTS).get("tasks", {})
    tasks = {**read_json(run_dir / "results.json"), **paper}
    found = {
        (task, name): value
        for task, figures in tasks.items()
        if isinstance(figures, Mapping) and task != "seconds"
        for name, value in figures.items()
        if isinstance(value, float)
    }
    if not found:
        raise ValueError(f"{run_dir}: was not evaluated; first: flava eval {run_dir}")
    return found


def comparison(run_dir: Path, other: Path) -> str:
    """Lay the figures that two runs share side by side.

    Args:
        run_dir: Folder of a run.
        other: Folder of the run it is compared with.

    Returns:
        Aligned lines with the difference, this run's less the other's.

    Raises:
        ValueError: One was not evaluated, or they share no figure.
    """
    ours, theirs = figures_of(run_dir), figures_of(other)
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise ValueError(f"{run_dir} and {other} share no figure; evaluate them on the same tasks")
    lines = [("task", "figure", run_dir.name, other.name, "difference")]
    for task, name in shared:
        mine, its = ours[task, name], theirs[task, name]
        lines.append((task, name, f"{mine:.4f}", f"{its:.4f}", f"{mine - its:+.4f}"))
    widths = [max(len(line[place]) for line in lines) for place in range(5)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
