"""A diagnosis as text: norms, shares and cosines by encoder, and in words what stands out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flava_plugin.balance_record import READS, BalanceRecord
from flava_plugin.evaluate.balance_findings import findings


def balance_text(records: Sequence[BalanceRecord], *, parts: bool = False) -> str:
    """Lay out the newest diagnosis, and how norms went before it.

    Args:
        records: By rising step; at least one.
        parts: Whether layer by layer, not by encoder only.

    Returns:
        Lines for a terminal.
    """
    last = records[-1]
    lines = [f"step {last.step}, learning rate {last.lr:.3g}, a fixed batch of each kind"]
    if parts:
        for encoder in last.encoders():
            lines += _tables(last, last.parts(encoder), f"{encoder} encoder: ")
    else:
        lines += _tables(last, last.encoders(), "")
    if len(records) > 1:
        lines += ["", "gradient norm by step: " + ", ".join(str(r.step) for r in records)]
        lines += _history(records)
    said = findings(last) or ["nothing is starved or in conflict"]
    return "\n".join([*lines, "", *said])


def _tables(last: BalanceRecord, places: Sequence[str], prefix: str) -> list[str]:
    """Four tables whose columns are encoders, or parts of one; what reads none has no row."""
    heads = [place.rpartition("/")[2] for place in places]
    read = {place: last.norms(place) for place in places}
    names = [n for n in last.objectives if any(read[place][n] > READS for place in places)]
    tables: list[tuple[str, Callable[[str], Mapping[str, float]], str]] = [
        ("gradient norm, weights not applied", last.norms, ".3g"),
        ("update of a step alone (weighted, clipped, AdamW's scale), norm", last.sizes, ".3g"),
        ("share of the way it goes, over steps of all kinds", last.shares, ".2f"),
    ]
    lines: list[str] = []
    for title, figures, form in tables:
        made = {place: figures(place) for place in places}
        rows = {
            f"{name} (weight {last.weights[name]:g})": [
                format(made[place][name], form) if read[place][name] > READS else "-"
                for place in places
            ]
            for name in names
        }
        lines += ["", prefix + title, *_table(heads, rows)]
    cosines = {place: last.cosines(place) for place in places}
    pairs = dict.fromkeys(pair for found in cosines.values() for pair in found)
    if pairs:
        rows = {
            f"{one} with {other}": [
                f"{cosines[place][one, other]:+.2f}" if (one, other) in cosines[place] else "-"
                for place in places
            ]
            for one, other in pairs
        }
        lines += ["", prefix + "cosine of gradients", *_table(heads, rows)]
    return lines


def _history(records: Sequence[BalanceRecord]) -> list[str]:
    places = records[-1].encoders()
    rows: dict[str, list[str]] = {}
    for name in records[-1].objectives:
        cells = []
        for place in places:
            norms = [r.norms(place).get(name, 0.0) for r in records if place in r.encoders()]
            cells.append(" / ".join(f"{n:.2g}" for n in norms) if max(norms) > READS else "-")
        rows[name] = cells
    return _table(places, rows)


def _table(heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    first = max((len(label) for label in rows), default=0)
    widths = [
        max(len(head), *(len(cells[k]) for cells in rows.values())) if rows else len(head)
        for k, head in enumerate(heads)
    ]
    lines = [(" " * first, heads), *rows.items()]
    return [
        "  ".join(
            [label.ljust(first), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))]
        ).rstrip()
        for label, cells in lines
    ]
