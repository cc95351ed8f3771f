"""The results as rows of a table: each figure beside the level that knows nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

Figures = Mapping[str, float | int]

CANNOT = "cannot"
"""Stands in a task's results in place of figures, with the reason, where the model has no part that
the task needs."""


class Row(NamedTuple):
    """One figure.

    Attributes:
        task: Name of the task, with its sizes.
        figure: What was measured, in words.
        value: The figure.
        level: What chance or the most frequent label reaches, or None where nothing is known.
        level_name: ``chance`` or ``majority``.
    """

    task: str
    figure: str
    value: float
    level: float | None
    level_name: str


def rows(results: Mapping[str, object]) -> list[Row]:
    """Turn ``results.json`` into rows.

    A task's whole numbers are sizes and go beside its name. The level of figure ``f`` is
    ``f_majority`` or ``f_chance``; the task's own ``majority`` or ``chance`` is that of its first
    figure; that of recall at k is k over ``gallery_size``.

    Args:
        results: Figures by task; what is no mapping, and ``seconds``, are not tasks. A task that
            the model cannot do has no row (``reasons``).

    Returns:
        Rows in the order of the tasks.
    """
    found: list[Row] = []
    for task, figures in results.items():
        if not isinstance(figures, Mapping) or task == "seconds" or CANNOT in figures:
            continue
        sizes = {name: value for name, value in figures.items() if isinstance(value, int)}
        about = ", ".join(f"{words(name)} {value}" for name, value in sizes.items())
        title = f"{words(task)} ({about})" if about else words(task)
        for name, value in figures.items():
            if name in sizes or re.search(r"(^|_)(majority|chance)$", name):
                continue
            level, level_name = _level(name, figures, first=not found or found[-1].task != title)
            found.append(Row(title, words(name), float(value), level, level_name))
    return found


def reasons(results: Mapping[str, object]) -> dict[str, str]:
    """Why tasks were not measured.

    Args:
        results: The contents of ``results.json``.

    Returns:
        The reason by task; empty where all were.
    """
    tasks = {task: figures for task, figures in results.items() if isinstance(figures, Mapping)}
    return {task: str(told[CANNOT]) for task, told in tasks.items() if CANNOT in told}


def _level(name: str, figures: Figures, *, first: bool) -> tuple[float | None, str]:
    recall = re.search(r"_r(\d+)$", name)
    if recall and "gallery_size" in figures:
        return min(1.0, int(recall[1]) / max(1, figures["gallery_size"])), "chance"
    for prefix in (f"{name}_", "") if first else (f"{name}_",):
        for kind in ("majority", "chance"):
            if prefix + kind in figures:
                return float(figures[prefix + kind]), kind
    return None, ""


def words(name: str) -> str:
    """Write a key as words.

    Args:
        name: Such as ``image_to_text_r1``.

    Returns:
        Such as ``image to text R@1``.
    """
    return re.sub(r" r(\d+)$", r" R@\1", name.replace("_", " "))


def text_table(results: Mapping[str, object]) -> str:
    """Lay the results out for a terminal.

    Args:
        results: The contents of ``results.json``.

    Returns:
        Aligned lines without a trailing newline: a heading, one line per figure, one per task that
        the model cannot do, and the seconds.
    """
    lines = [("task", "figure", "value", "baseline")]
    previous = ""
    for row in rows(results):
        level = "" if row.level is None else f"{row.level:.3f} {row.level_name}"
        lines.append(
            (row.task if row.task != previous else "", row.figure, f"{row.value:.3f}", level)
        )
        previous = row.task
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    text = [
        f"{task:<{widths[0]}}  {figure:<{widths[1]}}  {value:>{widths[2]}}  {level}".rstrip()
        for task, figure, value, level in lines
    ]
    text += [f"{words(task)}  cannot: {reason}" for task, reason in reasons(results).items()]
    seconds = results.get("seconds")
    if isinstance(seconds, Mapping):
        parts = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
        text.append(f"split {results.get('split')}, seed {results.get('seed')}, {parts}")
    return "\n".join(text)
