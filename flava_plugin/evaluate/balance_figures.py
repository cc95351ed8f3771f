"""Heat maps of a run's diagnoses: norms, shares and cosines by encoder over training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from flava_plugin.balance_record import READS, BalanceRecord, read_records
from flava_plugin.evaluate.balance_findings import findings
from flava_plugin.evaluate.report_page import charts, section

CELL, HEAD, WIDTH, VALUE, LETTER, MOST_LABEL = 18, 4, 340, 42, 6.8, 200
"""Sizes of a map: height of a cell, room above, its width, of that for values, a letter's width,
and the most that labels may take."""

MOST_COLUMNS = 40
"""Diagnoses that a map has room for; of more, evenly spaced ones are drawn, the last included."""

Colour = Callable[[float], str]


def balance_sections(run_dir: Path) -> list[str]:
    """Draw the diagnoses of a run.

    Args:
        run_dir: Folder of the run.

    Returns:
        Finished ``<section>`` elements; none where it has no ``balance.jsonl``.
    """
    path = run_dir / "balance.jsonl"
    records = read_records(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not records:
        return []
    last, records = records[-1], _spaced(records)
    steps = [f"step {record.step}" for record in records]
    drawn: dict[str, str] = {}
    for encoder in last.encoders():
        norms = _rows([r.norms(encoder, weighted=True) for r in records], least=READS)
        parts = last.parts(encoder)
        deep = _rows([last.norms(part, weighted=True) for part in parts], least=READS)
        shares = _rows([r.shares(encoder) for r in records], like=norms)
        cosines = _rows([_named(r.cosines(encoder)) for r in records])
        maps = {
            "weighted gradient norm": heat_map(steps, norms, _log_scale(norms), ".2g"),
            "norm by layer, last step": heat_map(parts, deep, _log_scale(deep), ".2g"),
            "share of the update": heat_map(steps, shares, diverging, ".2f"),
            "cosine": heat_map(steps, cosines, diverging, "+.2f"),
        }
        drawn |= {f"{encoder}: {name}": chart for name, chart in maps.items()}
    said = "; ".join(findings(records[-1])) or "nothing is starved or in conflict"
    note = (
        f"Steps {records[0].step} to {records[-1].step}, from left to right; the figure beside a "
        "row is the last one. Norms are dark where small, by orders of magnitude; shares and "
        f"cosines are blue above 0 and red below. At the last step: {said}."
    )
    return [section("Balance of the objectives", note, charts(drawn))]


def heat_map(
    columns: Sequence[str], rows: Mapping[str, Sequence[float]], colour: Colour, form: str
) -> str:
    """Draw rows of coloured cells.

    Args:
        columns: What each column is, shown with its cells' values.
        rows: Values by label; one that is not finite has no cell.
        colour: CSS colour of a value.
        form: Format of the last value, which stands beside the row.

    Returns:
        An ``<svg>`` element; a line of text where there is nothing to draw.
    """
    if not rows:
        return '<p class="note">nothing to compare: no two objectives read it</p>'
    label = min(MOST_LABEL, max(LETTER * len(name) for name in rows) + 8)
    across = (WIDTH - label - VALUE) / len(columns)
    title = f"{', '.join(rows)}; {columns[0]} to {columns[-1]}"
    height = HEAD + CELL * len(rows)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    for number, (name, values) in enumerate(rows.items()):
        top = HEAD + CELL * number
        shown = format(values[-1], form) if math.isfinite(values[-1]) else ""
        for x, text, anchor in ((label - 6, name, "end"), (WIDTH - VALUE + 4, shown, "start")):
            parts.append(
                f'<text class="label" x="{x:.1f}" y="{top + 13}" text-anchor="{anchor}">'
                f"{escape(text)}</text>"
            )
        for column, (what, value) in enumerate(zip(columns, values, strict=True)):
            if math.isfinite(value):
                parts.append(
                    f'<rect x="{label + across * column:.1f}" y="{top}" width="{across:.1f}" '
                    f'height="{CELL - 2}" fill="{colour(value)}"><title>{escape(name)}, '
                    f"{escape(what)}: {value:.3g}</title></rect>"
                )
    return "".join([*parts, "</svg>"])


def diverging(value: float) -> str:
    """Colour a value of -1 to 1: red below 0, blue above, the fainter the nearer to 0.

    Args:
        value: A share or a cosine.

    Returns:
        A CSS colour that suits light and dark pages.
    """
    strength = min(1.0, abs(value)) ** 0.5
    hue = "47, 111, 222" if value >= 0 else "192, 57, 43"
    return f"rgba({hue}, {0.06 + 0.94 * strength:.2f})"


def _log_scale(rows: Mapping[str, Sequence[float]]) -> Colour:
    values = [value for row in rows.values() for value in row if math.isfinite(value)] or [1.0]
    low = min(values)
    span = max(math.log10(max(values) / low), 1e-9)

    def colour(value: float) -> str:
        place = min(1.0, max(0.0, math.log10(max(value, low) / low) / span))
        return f"hsl({220 - 180 * place:.0f}, 70%, {28 + 37 * place:.0f}%)"

    return colour


def _rows(
    made: Sequence[Mapping[str, float]],
    *,
    least: float = -math.inf,
    like: Mapping[str, object] | None = None,
) -> dict[str, list[float]]:
    """Values by label, NaN where there is none; rows that are nowhere above ``least`` go."""
    labels = dict.fromkeys(label for found in made for label in found)
    rows = {label: [found.get(label, math.nan) for found in made] for label in labels}
    return {
        label: [value if value > least else math.nan for value in values]
        for label, values in rows.items()
        if any(value > least for value in values) and (like is None or label in like)
    }


def _named(cosines: Mapping[tuple[str, str], float]) -> dict[str, float]:
    return {f"{one}, {other}": value for (one, other), value in cosines.items()}


def _spaced(records: Sequence[BalanceRecord]) -> list[BalanceRecord]:
    if len(records) <= MOST_COLUMNS:
        return list(records)
    last = len(records) - 1
    return [records[last * n // (MOST_COLUMNS - 1)] for n in range(MOST_COLUMNS)]
