"""What tasks gain and lose by sharing a run: joint runs beside those on one kind of batch alone.

Transfer is a figure of the joint run less that of the best run on one kind that has it, paired by
seed; a negative one is interference. Which runs have a figure says itself: one on texts alone has
no head for patches, and no retrieval without pairs.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Figures = Mapping[str, float]
"""By ``task.figure``."""


class Spread(NamedTuple):
    """A figure over seeds.

    Attributes:
        mean: Its mean.
        error: Standard error of the mean, NaN with one seed.
    """

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + self._error()

    def signed(self) -> str:
        """Write it as a difference."""
        return f"{self.mean:+.3f}" + self._error()

    def _error(self) -> str:
        return "" if self.error != self.error else f" ± {self.error:.3f}"

    def verdict(self) -> str:
        """Say which way a difference goes, if it is larger than two standard errors."""
        if self.error != self.error:
            return ""
        if abs(self.mean) <= 2 * self.error:
            return "within 2 s.e."
        return "gains" if self.mean > 0 else "loses"


class Line(NamedTuple):
    """A figure of all rows.

    Attributes:
        figure: ``task.figure``.
        alone: The run on one kind that is best at it, and the figure; None where none has it.
        joint: The figure by joint row.
        transfer: What the joint row has over ``alone``, by row; empty where there is none.
    """

    figure: str
    alone: tuple[str, Spread] | None
    joint: dict[str, Spread]
    transfer: dict[str, Spread]


def figures_of(results: Mapping[str, Any]) -> dict[str, float]:
    """Read the figures of a run; levels that know nothing are left out.

    Args:
        results: The contents of ``results.json``.

    Returns:
        By ``task.figure``.
    """
    return {
        f"{task}.{name}": value
        for task, told in results.items()
        if isinstance(told, Mapping) and task != "seconds"
        for name, value in told.items()
        if isinstance(value, float) and not re.search(r"(^|_)(majority|chance)$", name)
    }


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard error.

    Args:
        values: At least one.

    Returns:
        Both.
    """
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return Spread(statistics.fmean(values), error)


def compare(
    rows: Mapping[str, Sequence[Figures]], alone: Sequence[str], joint: Sequence[str]
) -> list[Line]:
    """Hold joint runs against those on one kind.

    Args:
        rows: Figures by row, one for each seed in the same order.
        alone: Rows on one kind of batch.
        joint: Rows on all kinds, which have the same figures.

    Returns:
        A line for each figure of the joint rows.
    """
    lines = []
    for figure in figures_in(rows[joint[0]]):
        values = {
            name: [figures[figure] for figures in rows[name]]
            for name in (*alone, *joint)
            if figure in figures_in(rows[name])
        }
        best = best_of(values, alone)
        transfer = {}
        if best is not None:
            transfer = {
                name: spread([a - b for a, b in zip(values[name], values[best[0]], strict=True)])
                for name in joint
                if name in values
            }
        found = {name: spread(values[name]) for name in joint if name in values}
        lines.append(Line(figure, best, found, transfer))
    return lines


def best_of(
    values: Mapping[str, Sequence[float]], names: Iterable[str]
) -> tuple[str, Spread] | None:
    """Find the row with the largest mean.

    Args:
        values: A figure by row, one for each seed.
        names: Rows to choose from.

    Returns:
        The row and its figure; None where no row has it.
    """
    there = [(name, spread(values[name])) for name in names if name in values]
    return max(there, key=lambda each: each[1].mean, default=None)


def means(rows: Mapping[str, Sequence[Figures]], joint: Sequence[str]) -> dict[str, Spread]:
    """Average the tasks of joint rows, and of each task its figures.

    Args:
        rows: As for ``compare``.
        joint: Rows on all kinds, which have the same figures.

    Returns:
        By row.
    """
    tasks: dict[str, list[str]] = {}
    for figure in figures_in(rows[joint[0]]):
        tasks.setdefault(figure.partition(".")[0], []).append(figure)
    return {
        name: spread(
            [
                statistics.fmean(statistics.fmean(each[f] for f in own) for own in tasks.values())
                for each in rows[name]
            ]
        )
        for name in joint
    }


def figures_in(found: Sequence[Figures]) -> list[str]:
    """List the figures that every seed has.

    Args:
        found: Of a row.

    Returns:
        Their names, in order.
    """
    return [figure for figure in found[0] if all(figure in other for other in found)]


def transfer_text(
    rows: Mapping[str, Sequence[Figures]],
    alone: Sequence[str],
    joint: Sequence[str],
    longer: Sequence[str] = (),
) -> str:
    """Lay the comparison out as a table of Markdown.

    Args:
        rows: As for ``compare``.
        alone: Rows on one kind, with the joint rows' steps of that kind.
        joint: As for ``compare``.
        longer: Rows on one kind with all of the joint rows' steps.

    Returns:
        The table: a row for each figure.
    """
    head = ["figure", "best alone"]
    for name in joint:
        head += [name, "less alone", ""]
    head += ["best alone, all steps"] if longer else []
    table = [head, ["---"] * len(head)]
    beyond = {line.figure: line.alone for line in compare(rows, longer, joint)}
    for line in compare(rows, alone, joint):
        cells = [line.figure, _cell(line.alone)]
        for name in joint:
            gain = line.transfer.get(name)
            cells.append(str(line.joint[name]) if name in line.joint else "-")
            cells += [gain.signed(), gain.verdict()] if gain else ["-", ""]
        table.append([*cells, _cell(beyond[line.figure])] if longer else cells)
    cells = ["mean of tasks", ""]
    for mean in means(rows, joint).values():
        cells += [str(mean), "", ""]
    table.append([*cells, ""] if longer else cells)
    return "\n".join("| " + " | ".join(row) + " |" for row in table)


def _cell(best: tuple[str, Spread] | None) -> str:
    return "-" if best is None else f"{best[1]} ({best[0].partition(' ')[0]})"
