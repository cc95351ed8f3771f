"""What a study found, as Markdown: gains and losses, starved objectives, and what to change."""

from __future__ import annotations

from collections.abc import Mapping

from flava_plugin.balance_record import BalanceRecord, read_records
from flava_plugin.evaluate.balance_findings import findings
from flava_plugin.evaluate.recommendation import recommend
from flava_plugin.evaluate.transfer import figures_of, transfer_text
from flava_plugin.launch.balance_study import Study, measured
from flava_plugin.recipe import Recipe
from flava_plugin.recipe_alone import shares_of, weights_of


def study_text(study: Study, split: str | None) -> str:
    """Write the report of a study whose runs are all measured.

    Args:
        study: The study.
        split: Split that they were measured on.

    Returns:
        Markdown.
    """
    alone, longer, joint = study.rows("alone"), study.rows("longer"), study.rows("joint")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (*alone, *longer, *joint)}
    for run in study.runs:
        rows[run.row].append(figures_of(measured(run, split) or {}))
    steps = {run.row: run.recipe.steps for run in study.runs}
    seeds = sorted({run.recipe.seed for run in study.runs})
    lines = [
        f"Balance of {study.joint.steps} steps, split {split}, seeds {', '.join(map(str, seeds))};"
        " mean ± standard error",
        "",
        "Steps: " + ", ".join(f"{name} {steps[name]}" for name in rows) + ".",
        "Best alone: of the runs on one kind of batch, with the joint run's steps of that kind.",
        "",
        transfer_text(rows, alone, joint, longer),
    ]
    records = _records(study)
    if records:
        lines += ["", *_said(records), "", *_recommended(study.joint, records)]
    return "\n".join(lines)


def _records(study: Study) -> list[BalanceRecord]:
    """Diagnoses of the joint runs of all seeds."""
    found = []
    for run in study.runs:
        path = run.folder / "balance.jsonl"
        if run.row == "joint" and path.is_file():
            found += read_records(path.read_text(encoding="utf-8"))
    return [record for record in found if record.is_finite()]


def _said(records: list[BalanceRecord]) -> list[str]:
    """What the last diagnosis of a seed says."""
    last = records[-1]
    return [
        f"At step {last.step} of the last seed's joint run:",
        *(f"- {s}" for s in findings(last)),
    ]


def _recommended(joint: Recipe, records: list[BalanceRecord]) -> list[str]:
    kinds = {name: objective.modality for name, objective in joint.objectives.items()}
    found = recommend(records, kinds)
    changes = [
        *weights_of(joint, found.weights),
        *shares_of(joint, _by_source(joint, found.shares)),
        *([f"optim.clip_norm={found.clip_norm:g}"] if found.clip_norm else []),
    ]
    if not changes:
        return [f"The norms of {len(records)} diagnoses speak for what the recipe says."]
    return [
        f"What the norms of {len(records)} diagnoses speak for:",
        "",
        *(f"    {change}" for change in changes),
        "",
        "Give these to the same command, with another --folder, and it is held against runs of its "
        "own.",
    ]


def _by_source(joint: Recipe, shares: Mapping[str, float]) -> dict[str, float]:
    """Divide the share of each kind between its sources, as the recipe does."""
    found: dict[str, float] = {}
    for name, source in joint.data.sources.items():
        peers = [s for s in joint.data.sources.values() if s.modality == source.modality]
        whole = sum(peer.share or 0.0 for peer in peers)
        part = (source.share or 0.0) / whole if whole else 1 / len(peers)
        found[name] = float(f"{shares[source.modality] * part:.3g}")
    return found
