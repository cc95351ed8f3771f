"""The runs of a balance report: planned and checked together, then trained and measured in turn.

Each run has a folder of its own, as ``flava train`` makes it, so a study that is stopped goes on
from the checkpoint of the run it was at; and runs may as well be trained as jobs, by the commands
that ``--dry-run`` prints. What was measured of a run lies beside it as ``NAME.json``, with what it
was measured by.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flava_plugin import durable
from flava_plugin.recipe import Recipe, RecipeError, load_recipe
from flava_plugin.recipe_alone import alone, diagnosed, steps_by_kind, unit_weights

logger = logging.getLogger(__name__)

ALSO = ("unit", "total")
"""Rows that a study has only when asked: joint with weights of 1, and runs on one kind for as many
steps as the joint run has in all."""


Role = Literal["joint", "alone", "longer"]
"""Of a run: on all kinds of batch; on one, for the joint run's steps of it or for all of them."""


@dataclass(frozen=True)
class Planned:
    """A run of a study.

    Attributes:
        row: Its row of the report; the same for every seed.
        role: What it is there for.
        folder: Its run folder.
        command: What trains it.
        recipe: Its recipe, checked.
    """

    row: str
    role: Role
    folder: Path
    command: str
    recipe: Recipe


@dataclass(frozen=True)
class Study:
    """A balance report's runs.

    Attributes:
        joint: The recipe that is reported on.
        runs: All runs: those of a seed together, the joint one first.
    """

    joint: Recipe
    runs: list[Planned]

    def rows(self, role: Role) -> list[str]:
        """List rows of the report.

        Args:
            role: Of their runs.

        Returns:
            Names, in order.
        """
        return list(dict.fromkeys(run.row for run in self.runs if run.role == role))


def plan_study(
    name: str,
    overrides: Sequence[str],
    shares_of: Callable[[Recipe], Mapping[str, float]],
    folder: Path,
    seeds: int,
    also: Sequence[str] = (),
) -> Study:
    """Plan and check every run.

    Args:
        name: The joint recipe.
        overrides: Changes to it.
        shares_of: Works out the sources' shares of a recipe's steps (``plan/shares.py``).
        folder: Of the study.
        seeds: How many, from the recipe's own on.
        also: Of ``ALSO``.

    Returns:
        The study; nothing was written.

    Raises:
        RecipeError: The recipe or a run made of it is refused; every error of every run.
    """
    joint = load_recipe(name, overrides)
    errors = list(_misuse(joint, seeds, also))
    if errors:
        raise RecipeError(errors)
    shares = shares_of(joint)
    steps = steps_by_kind(joint, shares)
    rows: list[tuple[str, str, Role, list[str]]] = [("joint", "joint", "joint", diagnosed(joint))]
    if "unit" in also and (changes := unit_weights(joint)):
        rows.append(("unit weights", "unit", "joint", [*changes, *diagnosed(joint)]))
    for kind, own in steps.items():
        rows.append((f"{kind} alone", kind, "alone", alone(joint, kind, own, shares)))
    if "total" in also:
        for kind in steps:
            changes = alone(joint, kind, joint.steps, shares)
            row = f"{kind} alone, {joint.steps} steps"
            rows.append((row, f"{kind}-total", "longer", changes))
    runs = []
    for seed in range(joint.seed, joint.seed + seeds):
        for row, label, role, changes in rows:
            run_dir = folder / f"{label}-{seed}"
            words = [*overrides, *changes, f"seed={seed}", f"run_dir={run_dir}"]
            try:
                recipe = load_recipe(name, words)
            except RecipeError as refused:
                errors += [f"{row}: {line}" for line in refused.lines]
                continue
            command = shlex.join(["flava", "train", name, *words])
            runs.append(Planned(row, role, run_dir, command, recipe))
    if errors:
        raise RecipeError(list(dict.fromkeys(errors)))
    return Study(joint, runs)


def _misuse(joint: Recipe, seeds: int, also: Sequence[str]) -> Iterator[str]:
    kinds = {source.modality for source in joint.data.sources.values()}
    if len(kinds) < 2:
        yield f"data.sources: all are of kind {', '.join(kinds)}; a report takes a joint recipe"
    if not joint.evaluate.tasks:
        yield "evaluate.tasks: names none, so that no run could be held against another"
    if seeds < 1:
        yield f"--seeds {seeds}: give 1 or more"
    for name in also:
        if name not in ALSO:
            yield f"--also {name}: is none of {', '.join(ALSO)}"
    if "total" in also and joint.balance.step == "accumulated":
        yield "--also total: an accumulated step has a batch of every kind, so that both are alike"


def measure(run: Planned, split: str | None) -> None:
    """Train and measure a run, from where an earlier start left it; all ranks take part.

    Args:
        run: The run.
        split: Split of every task's dataset; None takes the recipe's.
    """
    from flava_plugin.evaluate.run import evaluate_run
    from flava_plugin.evaluate.sharing import Ranks
    from flava_plugin.train.loop import train
    from flava_plugin.train.world import connect, disconnect, lost_ranks_named

    logger.info("%s, seed %d: %s", run.row, run.recipe.seed, run.folder)
    train(run.recipe)
    world = connect(run.recipe.device, run.recipe.sharding.timeout)
    try:
        with lost_ranks_named(world):
            results = evaluate_run(
                run.folder,
                split=split,
                device=str(world.device),
                ranks=Ranks(world.rank, world.size),
            )
    finally:
        disconnect()
    if world.rank == 0:
        found = {**_asked(run, split), "results": results}
        durable.write_text(_record(run), json.dumps(found, indent=2) + "\n")


def measured(run: Planned, split: str | None) -> dict[str, Any] | None:
    """Read what was measured of a run.

    Args:
        run: The run.
        split: Split of every task's dataset; None takes the recipe's.

    Returns:
        The contents of ``results.json``; None where nothing was measured, or something else.
    """
    try:
        found: Mapping[str, Any] = json.loads(_record(run).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    asked = _asked(run, split)
    same = all(found.get(key) == value for key, value in asked.items())
    return dict(found["results"]) if same else None


def _asked(run: Planned, split: str | None) -> dict[str, Any]:
    """What a run was trained and measured by; what has changed since is measured anew."""
    recipe = run.recipe.model_dump(mode="json", exclude={"run_dir"})
    return {"split": split, "recipe": recipe}


def _record(run: Planned) -> Path:
    return run.folder.with_name(f"{run.folder.name}.json")
