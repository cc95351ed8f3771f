"""What a study found, as Markdown: gains and losses, starved objectives, and what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flava_plugin.balance_record import BalanceRecord, read_records
from flava_plugin.evaluate.balance_findings import findings
from flava_plugin.evaluate.fair_shares import Worths
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
    by_seed = _records(study)
    if by_seed:
        lines += ["", *_said(by_seed[-1]), "", *_recommended(study.joint, by_seed)]
    return "\n".join(lines)


def _records(study: Study) -> list[list[BalanceRecord]]:
    """Diagnoses of the joint run of each seed that has some."""
    paths = [run.folder / "balance.jsonl" for run in study.runs if run.row == "joint"]
    found = [read_records(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    finite = [[record for record in records if record.is_finite()] for records in found]
    return [records for records in finite if records]


def _said(records: list[BalanceRecord]) -> list[str]:
    """What the last diagnosis of a seed says."""
    last = records[-1]
    return [
        f"At step {last.step} of the last seed's joint run:",
        *(f"- {s}" for s in findings(last) or ["nothing is starved or in conflict"]),
    ]


def _recommended(joint: Recipe, by_seed: Sequence[list[BalanceRecord]]) -> list[str]:
    kinds = {name: objective.modality for name, objective in joint.objectives.items()}
    records = [record for seed in by_seed for record in seed]
    found = recommend(records, kinds)
    spread = _spread([recommend(seed, kinds).shares for seed in by_seed])
    changes = weights_of(joint, found.weights)
    # an accumulated step has a batch of every kind, whatever the shares
    if joint.balance.step != "accumulated" and not _within(joint, spread):
        changes += shares_of(joint, _by_source(joint, found.shares))
    if found.clip_norm:
        changes.append(f"optim.clip_norm={found.clip_norm:g}")
    lines = _worths(found.worths, kinds)
    if len(by_seed) > 1:
        ranges = (f"{kind} {low:g} to {high:g}" for kind, (low, high) in spread.items())
        lines += ["", f"Shares that single seeds speak for: {', '.join(ranges)}."]
    if not changes:
        return [*lines, "", f"{len(records)} diagnoses speak for what the recipe says."]
    return [
        *lines,
        "",
        f"What {len(records)} diagnoses speak for:",
        "",
        *(f"    {change}" for change in changes),
        "",
        "Give these to the same command, with another --folder, and it is held against runs of its "
        "own.",
    ]


def _worths(found: Worths, kinds: Mapping[str, str]) -> list[str]:
    """A table of what kinds teach each other."""
    return [
        "What a step is worth, to first order, in steps of the objective's own kind:",
        "",
        f"| step of | {' | '.join(kinds)} |",
        f"|{'---|' * (len(kinds) + 1)}",
        *(
            f"| {kind} | {' | '.join(f'{round(row[name], 2) + 0.0:.2f}' for name in kinds)} |"
            for kind, row in found.items()
        ),
    ]


def _spread(shares: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Least and largest share of each kind."""
    return {
        kind: (min(one[kind] for one in shares), max(one[kind] for one in shares))
        for kind in shares[0]
    }


def _within(joint: Recipe, spread: Mapping[str, tuple[float, float]]) -> bool:
    """Whether the recipe's shares are between those that single seeds speak for."""
    own = dict.fromkeys(spread, 0.0)
    for source in joint.data.sources.values():
        own[source.modality] += source.share or 0.0
    whole = sum(own.values()) or 1.0
    # of six digits, since shares of several sources add up to 0.30000000000000004
    return joint.mixture.strategy.type == "fixed" and all(
        low <= round(own[kind] / whole, 6) <= high for kind, (low, high) in spread.items()
    )


def _by_source(joint: Recipe, shares: Mapping[str, float]) -> dict[str, float]:
    """Divide the share of each kind between its sources, as the recipe does."""
    found: dict[str, float] = {}
    for name, source in joint.data.sources.items():
        peers = [s for s in joint.data.sources.values() if s.modality == source.modality]
        whole = sum(peer.share or 0.0 for peer in peers)
        part = (source.share or 0.0) / whole if whole else 1 / len(peers)
        found[name] = float(f"{shares[source.modality] * part:.3g}")
    return found
