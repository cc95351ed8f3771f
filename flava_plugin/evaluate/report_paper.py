"""The paper's tasks in the report: a run's figures beside FLAVA's and CLIP's printed ones."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from flava_plugin.evaluate.averages import averages
from flava_plugin.evaluate.paper_run import per_cent
from flava_plugin.evaluate.paper_tasks import TASKS, paper_column
from flava_plugin.evaluate.report_page import section

PRINTED = {"flava": "FLAVA", "clip_pmd": "CLIP (PMD)", "clip_400m": "CLIP (400M)"}
"""Columns of the paper's table 4 by their name here, and their headings."""


def paper_section(results: Mapping[str, Any]) -> str:
    """Lay out what was measured of the paper's tasks.

    Args:
        results: The contents of ``paper_tasks.json``.

    Returns:
        A ``<section>`` element: figures and averages in per cent, notes on the data, and why the
        other tasks were not run.
    """
    ours = per_cent(results.get("tasks", {}))
    columns = [paper_column(name) for name in PRINTED]
    heads = "".join(f'<th class="value">{escape(n)}</th>' for n in ("this run", *PRINTED.values()))
    lines = [f"<tr><th>task</th><th>figure</th>{heads}</tr>"]
    for name in (name for name in TASKS if name in ours):  # in the paper's order
        for figure, value in ours[name].items():
            lines.append(_line(name, figure, value, *(column[name][figure] for column in columns)))
    means = [averages(column, ours) for column in columns]
    for group, value in averages(ours).items():
        lines.append(_line(f"mean {group}", "", value, *(mean[group] for mean in means)))
    body = f'<table class="figures">{"".join(lines)}</table>' if ours else ""
    notes = results.get("notes", {})
    body += _list("Notes on the data", notes) + _list("Not run", results.get("not_run", {}))
    note = (
        f"In per cent; {len(ours)} of {len(TASKS)} tasks are measured, and all means are over "
        "those. The other columns are printed in table 4 of the paper (arXiv 2112.04482)."
    )
    return section("The paper's tasks", note, body)


def _line(task: str, figure: str, *values: float) -> str:
    own, *printed = (f"{value:.2f}" for value in values)
    cells = "".join(f'<td class="value level">{value}</td>' for value in printed)
    named = f"<td>{escape(task)}</td><td>{escape(figure)}</td>"
    return f'<tr>{named}<td class="value">{own}</td>{cells}</tr>'


def _list(title: str, texts: Mapping[str, Any]) -> str:
    if not texts:
        return ""
    lines = (f"<li>{escape(name)}: {escape(str(texts[name]))}</li>" for name in sorted(texts))
    return f"<h3>{escape(title)}</h3><ul>{''.join(lines)}</ul>"
