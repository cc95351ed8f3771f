"""``report.html`` of a run: results, curves, throughput and what each evaluator shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flava_plugin import durable
from flava_plugin.evaluate.balance_figures import balance_sections
from flava_plugin.evaluate.exhibits import Exhibit
from flava_plugin.evaluate.report_figures import line_chart
from flava_plugin.evaluate.report_page import (
    charts,
    exhibit_section,
    figures_table,
    folded,
    page,
    section,
)
from flava_plugin.evaluate.report_paper import paper_section
from flava_plugin.evaluate.table import reasons, rows, words


def write_report(
    run_dir: Path,
    results: Mapping[str, Any],
    exhibits: Sequence[Exhibit],
    objectives: Sequence[str],
) -> Path:
    """Write the report of a run; it opens without a network and needs no script.

    Args:
        run_dir: Folder of the run; ``metrics.jsonl``, ``balance.jsonl``, ``recipe.yaml``,
            ``versions.txt``, ``summary.json`` and ``paper_tasks.json`` are read where they are
            there.
        results: The contents of ``results.json``.
        exhibits: What the evaluators show.
        objectives: Names of the losses, in the order of their curves.

    Returns:
        The path of ``report.html``.
    """
    metrics = read_metrics(run_dir / "metrics.jsonl")
    summary = read_json(run_dir / "summary.json")
    sections = [
        section(
            "Results",
            "The tick on each bar is the level that chance or the most frequent label reaches."
            + "".join(f" {words(task)}: cannot, {why}." for task, why in reasons(results).items()),
            figures_table(rows(results)),
        ),
        section("Losses", _loss_note(metrics), charts(loss_charts(metrics, objectives))),
        section("Throughput", _throughput_note(summary), charts(throughput_chart(metrics))),
    ]
    if paper := read_json(run_dir / "paper_tasks.json"):
        sections.insert(1, paper_section(paper))
    sections += balance_sections(run_dir)
    sections += [exhibit_section(exhibit) for exhibit in exhibits]
    texts = {
        name: path.read_text(encoding="utf-8")
        for name in ("recipe.yaml", "versions.txt")
        if (path := run_dir / name).is_file()
    }
    sections.append(
        section(
            "Recipe and versions",
            "What this run was, in full.",
            "".join(folded(name, text) for name, text in texts.items()),
        )
    )
    facts = f"seed {results.get('seed')}, split {results.get('split')}"
    for name, value in results.get("seconds", {}).items():
        facts += f", {name} {value:.0f} s"
    path = run_dir / "report.html"
    durable.write_text(path, page(f"FLAVA run {run_dir.name}", facts, sections))
    return path


def loss_charts(metrics: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> dict[str, str]:
    """Draw one chart per objective.

    Args:
        metrics: Lines of ``metrics.jsonl``.
        objectives: Their names, which are keys of the lines of steps that computed them.

    Returns:
        Charts by objective.
    """
    drawn = {}
    for name in objectives:
        points = series(metrics, name)
        steps, values = [x for x, _ in points], [y for _, y in points]
        drawn[name] = line_chart(steps, values, title=f"loss {name} by step", unit="loss")
    return drawn


def throughput_chart(metrics: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Draw samples per second.

    Args:
        metrics: Lines of ``metrics.jsonl``; the key is ``samples_per_s``.

    Returns:
        One chart, or none where nothing was logged.
    """
    points = series(metrics, "samples_per_s")
    if not points:
        return {}
    steps, values = [x for x, _ in points], [y for _, y in points]
    title = "samples per second"
    return {title: line_chart(steps, values, title=title, unit="samples / s")}


def series(metrics: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Pick one key of the metrics.

    Args:
        metrics: Lines of ``metrics.jsonl``.
        key: Such as ``mlm``.

    Returns:
        Step and value of each line that has it, the last one of each step (a resumed run may log
        a step again), by rising step.
    """
    found = {
        float(line["step"]): float(line[key])
        for line in metrics
        if "step" in line and isinstance(line.get(key), int | float)
    }
    return sorted(found.items())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines.

    Args:
        path: The file; may be missing.

    Returns:
        The lines that are whole: a killed run may end in half a line.
    """
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file; may be missing.

    Returns:
        The object; empty where there is none.
    """
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _loss_note(metrics: Sequence[Mapping[str, Any]]) -> str:
    if not metrics:
        return "No metrics.jsonl in the run folder."
    return "Each logged value pale, its running mean on top; the mean over the global batch."


def _throughput_note(summary: Mapping[str, Any]) -> str:
    if not {"steps", "seconds", "samples_per_s"} <= summary.keys():
        return "No summary of the training."
    return (
        f"{summary['steps']} steps in {summary['seconds']:.0f} s, "
        f"{summary['samples_per_s']:.1f} samples per second on average."
    )
