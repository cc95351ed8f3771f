"""A plan and the tables of a source -> which samples are used: the same whenever it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.balance import balance
from flava_plugin.data.curation.duplicates import drop_duplicates
from flava_plugin.data.curation.filters import filter_basic, filter_score
from flava_plugin.data.curation.keyed_files import KeyedFile
from flava_plugin.data.curation.matches import Matching
from flava_plugin.data.curation.near_duplicates import drop_near
from flava_plugin.data.curation.sections import (
    BalanceStep,
    BasicStep,
    CurationPlan,
    DuplicatesStep,
    NearDuplicatesStep,
    ScoreStep,
)
from flava_plugin.data.curation.table import Table

Judged = tuple[NDArray[np.bool_], dict[str, Any]]


def select(
    plan: CurationPlan, table: Table, matchings: Mapping[int, Matching]
) -> tuple[NDArray[np.bool_], list[dict[str, Any]]]:
    """Take the steps of a plan.

    Args:
        plan: The plan.
        table: Of all samples.
        matchings: What captions match, by the places of the ``balance`` steps.

    Returns:
        (samples,) which are used; and for each step, what could be read first, its parameters, how
        many came and how many are left.

    Raises:
        ValueError: A step cannot be taken; the text names it.
    """
    readable, faults, examples = table.readable()
    kept = readable
    steps: list[dict[str, Any]] = [
        {
            "type": "readable",
            "in": len(table),
            "kept": int(kept.sum()),
            "faults": faults,
            "examples": examples,
        }
    ]
    for place, step in enumerate(plan.steps):
        came = int(kept.sum())
        try:
            if isinstance(step, BasicStep):
                kept, report = filter_basic(table, kept, step)
            elif isinstance(step, ScoreStep):
                kept, report = filter_score(table, kept, step, readable)
            elif isinstance(step, DuplicatesStep):
                kept, report = drop_duplicates(table, kept, step)
            elif isinstance(step, NearDuplicatesStep):
                kept, report = _drop_near(table, kept, step)
            else:
                # chance differs from step to step, should a plan balance twice
                kept, report = balance(table, kept, step, matchings[place], plan.seed + place)
        except ValueError as error:
            raise ValueError(f"steps.{place} ({step.type}): {error}") from error
        parameters = step.model_dump(mode="json")
        if isinstance(step, BalanceStep):
            parameters["seed"] = plan.seed + place
        steps.append({**parameters, "in": came, "kept": int(kept.sum()), "report": report})
    return kept, steps


def _drop_near(table: Table, kept: NDArray[np.bool_], step: NearDuplicatesStep) -> Judged:
    report: dict[str, Any] = {}
    if step.hashes is not None:
        file = KeyedFile(step.hashes.file, step.hashes.key, step.hashes.column, hashes=True)
        hashes, known, joined = file.values_of(table.column("key"))
        report = {"hashes": {"digest": file.digest, **joined}}
    else:
        hashes, known = table.column("perceptual"), table.column("width") > 0
        if not known.any():
            raise ValueError("there are no pictures")
    values = None
    if step.prefer == "pixels":
        values = table.column("width").astype(np.float32) * table.column("height")
    elif step.prefer is not None:
        values = table.scores[step.prefer]
    left, found = drop_near(kept, hashes, known, step.distance, values)
    return left, found | report
