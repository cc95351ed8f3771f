"""Averages over the paper's tasks, computed as the paper computes them."""

from __future__ import annotations

from collections.abc import Mapping

from flava_plugin.evaluate.paper_tasks import GROUPS, TASKS

Figures = Mapping[str, Mapping[str, float]]


def averages(figures: Figures, only: Figures | None = None) -> dict[str, float]:
    """Average the figures of each group, and the groups.

    Args:
        figures: By task and figure; what is not in the paper's table does not count.
        only: Takes those that this has too, so that two columns stand on the same tasks.

    Returns:
        The mean over the figures of each group that has any, and ``macro``, the mean of the three
        groups where all are there.
    """
    found: dict[str, float] = {}
    for group in GROUPS:
        values = [
            figures[task.name][figure]
            for task in TASKS.values()
            for figure in task.printed
            if task.group == group
            and figure in figures.get(task.name, {})
            and (only is None or figure in only.get(task.name, {}))
        ]
        if values:
            found[group] = sum(values) / len(values)
    if len(found) == len(GROUPS):
        found["macro"] = sum(found.values()) / len(GROUPS)
    return found


def complete(figures: Figures) -> bool:
    """Whether every figure of the paper's table is there.

    Args:
        figures: By task and figure.

    Returns:
        True if averages are over all 35 tasks.
    """
    return all(
        figure in figures.get(task.name, {}) for task in TASKS.values() for figure in task.printed
    )
