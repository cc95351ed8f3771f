"""The report in words and aligned columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.benchmarks.bench import goals
from tests.benchmarks.bench.implementation import PARTS
from tests.benchmarks.bench.rig import AS_THEY_COME, BEST, NAMES, OURS

SHORT = {
    "torchmultimodal": "tm",
    "hugging_face": "hf",
    "torchmultimodal_best": "tm best",
    "hugging_face_best": "hf best",
    "ours": "ours",
    "ours_released": "released",
}


def aligned(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Columns as wide as need be; those under a title of their own but the first to the right."""
    table = [list(head), *map(list, lines)]
    widths = [max(len(line[place]) for line in table) for place in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place and head[place] else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def verdict(value: float | None, goal: float | None, *, at_most: bool = False) -> str:
    """A figure next to what is promised; nothing where nothing is."""
    if value is None or goal is None:
        return ""
    reached = value <= goal if at_most else value >= goal
    return f"{'<=' if at_most else '>='} {goal:g} {'ok' if reached else 'MISSED'}"


def name_of(row: Mapping[str, Any]) -> str:
    """What a row is, in its first column."""
    return f"{row['size']} {row['kind']} {row['precision']} tokens {row['tokens']}"


def times(rows: Sequence[Mapping[str, Any]]) -> str:
    """Median seconds of a step, and the ratios at both settings."""
    head = ["row", "B", "longest", *(SHORT[name] for name in NAMES[:5])]
    for setting in ("", " best"):
        head += [f"x tm{setting}", f"x hf{setting}", f"x faster{setting}", "goal"]
    lines = []
    for row in rows:
        cells = [name_of(row), str(row["rows"]), str(row["longest"])]
        if not row["passed"]:
            lines.append([*cells, "GATE FAILED", *[""] * (len(head) - 4)])
            continue
        seconds = row["seconds"]
        cells += [f"{seconds[n]['step']:.3f}" if n in seconds else "-" for n in NAMES[:5]]
        for setting, peers in (("as_they_come", AS_THEY_COME), ("best", BEST)):
            found = row["ratios"][setting]
            cells += [f"{found[n]:.2f}" if n in found else "-" for n in (*peers, "faster")]
            cells.append(verdict(found.get("faster"), row["goals"].get(setting)))
        lines.append(cells)
    return aligned(head, lines)


def parts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Median seconds of a step's parts: forward / backward / optimiser."""
    shown = [name for name in NAMES if any(name in row.get("seconds", {}) for row in rows)]
    lines = []
    for row in rows:
        found = row.get("seconds", {})
        lines.append(
            [
                name_of(row),
                *(
                    " / ".join(f"{found[name][part]:.3f}" for part in PARTS)
                    if name in found
                    else "-"
                    for name in shown
                ),
            ]
        )
    return aligned(["forward / backward / optimizer", *(SHORT[name] for name in shown)], lines)


def gates(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far losses and gradients are apart, the worst of all peers; the JSON has each."""
    lines = []
    for row in rows:
        failed = [found for found in row["gate"] if not found["passed"]]
        cells = [name_of(row)]
        cells += [
            f"{max(found[error] for found in row['gate']):.1e}"
            for error in ("loss_error", "gradient_error")
        ]
        against = (f"{SHORT[found['peer']]}: {found['tensor']}" for found in failed)
        lines.append([*cells, f"FAILED against {', '.join(against)}" if failed else "ok"])
    return aligned(["gate (fp32)", "losses", "gradients", ""], lines)


def distances(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far bf16 takes the gradients from fp32; goals against the better peer."""
    lines = []
    for row in rows:
        found = row.get("distances", {})
        peers = [found[name] for name in AS_THEY_COME if name in found]
        for name, errors in found.items():
            cells = [name_of(row), SHORT[name]]
            for figure in ("median", "worst"):
                goal = ""
                if name == OURS and peers:
                    best = min(peer[figure] for peer in peers)
                    goal = verdict(errors[figure] / best, goals.BF16_DISTANCE, at_most=True)
                    goal = f"{errors[figure] / best:.2f} {goal}"
                cells += [f"{errors[figure]:.1e}", goal]
            lines.append([*cells, errors["tensor"]])
    return aligned(
        ["gradients in bf16 from fp32", "", "median", "", "worst", "", "worst tensor"], lines
    )


def memory(found: Mapping[str, Any]) -> str:
    """Peaks in MiB, and the ratios."""
    lines = [
        [SHORT[name], *(f"{peak[each]:.0f}" for each in ("built", "peak", "above"))]
        for name, peak in found["peaks"].items()
    ]
    title = f"memory in MiB, {found['size']} {found['kind']} {found['precision']}"
    text = aligned([title, "built", "peak", "above"], lines)
    on_cpu = found["device"] == "cpu"
    for setting, value in found["ratios" if on_cpu else "ratios_of_all"].items():
        if value is not None:
            shown = verdict(value, goals.of_memory(found, setting), at_most=True)
            what = "above the built model" if on_cpu else "of all"
            text += f"\nours over the better peer {what}, {setting}: {value:.2f}  {shown}"
    if not all(peak["reset"] for peak in found["peaks"].values()):
        text += "\nthe peak could not be set back: building may hide a step's"
    return text


def cached(found: Mapping[str, Any]) -> str:
    """The cached contrastive step."""
    lines = [
        [f"{rows} rows", *(f"{peak[each]:.0f}" for each in ("built", "peak", "above"))]
        for rows, peak in found["peaks"].items()
    ]
    return (
        aligned(["cached contrastive step, MiB", "built", "peak", "above"], lines)
        + f"\npeaks after as many rows, large over small: {found['ratio']:.2f}  "
        + verdict(found["ratio"], goals.CACHED_MEMORY, at_most=True)
        + f"; after one step of each: {found['ratio_of_one_step']:.2f}"
        + f"\ngradients against the plain step: {found['gradient_error']:.1e} ({found['tensor']})"
    )
