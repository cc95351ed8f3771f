"""The diagnosis of a run after the fact, from the checkpoints that it has kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch

from flava_plugin import registry
from flava_plugin.balance_record import BalanceRecord, read_records
from flava_plugin.data.codes import open_codes
from flava_plugin.data.loader import load_steps
from flava_plugin.data.mixture_run import open_mixture
from flava_plugin.model.execution import text_multiple
from flava_plugin.model.freezing import freeze
from flava_plugin.model.learner import build_learner, hides
from flava_plugin.recipe import Recipe, load_recipe
from flava_plugin.recipe_mixture import facts_of
from flava_plugin.sections_balance import DiagnoseSection
from flava_plugin.train import checkpoint
from flava_plugin.train.balance import Balance
from flava_plugin.train.diagnosis import Diagnosis
from flava_plugin.train.gradient_groups import groups_of
from flava_plugin.train.optim import set_lr
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.world import World, connect, disconnect

logger = logging.getLogger(__name__)


def diagnose_run(run_dir: Path, which: str, overrides: Sequence[str]) -> list[BalanceRecord]:
    """Diagnose checkpoints of a run that were not yet, and add them to its ``balance.jsonl``.

    Args:
        run_dir: Folder of the run.
        which: ``kept`` for all checkpoints that are there, ``latest``, ``best`` or a number.
        overrides: ``key=value`` changes to its recipe, such as where data lie now. With any, or
            with one checkpoint named, that is measured anew.

    Returns:
        The records asked for; with ``kept`` also those that the run itself made. None on ranks
        other than the first.

    Raises:
        ValueError: The folder holds no run or no such checkpoint, or they do not fit.
    """
    if not (run_dir / "recipe.yaml").is_file():
        raise ValueError(f"{run_dir}: no run here (no recipe.yaml); give the run_dir of a training")
    path = run_dir / "balance.jsonl"
    known = read_records(path.read_text(encoding="utf-8")) if path.is_file() else []
    recipe = load_recipe(str(run_dir / "recipe.yaml"), overrides)
    if which == "kept":
        there = {record.step for record in known} if not overrides else set()
        kept = sorted(checkpoint.steps_in(run_dir / "checkpoints"))
        if not kept and not known:
            raise ValueError(f"{run_dir} holds no checkpoint; train it, or name another folder")
        found = [checkpoint.find(run_dir, step) for step in kept if step not in there]
    else:
        found, known = [checkpoint.find(run_dir, which)], []
    with ExitStack() as stack:
        stack.callback(disconnect)
        if recipe.threads is not None:
            before = torch.get_num_threads()
            stack.callback(torch.set_num_threads, before)
            torch.set_num_threads(recipe.threads)
        world = connect(recipe.device, recipe.sharding.timeout)
        made = _measure(recipe, found, world) if found else []
        if world.rank:
            return []
        with path.open("a", encoding="utf-8") as file:
            file.writelines(record.line() + "\n" for record in made)
    records = {record.step: record for record in (*known, *made)}
    return [records[step] for step in sorted(records)]


def _measure(
    recipe: Recipe, found: Sequence[checkpoint.Checkpoint], world: World
) -> list[BalanceRecord]:
    spec = recipe.data.tokenizer
    tokenizer = registry.tokenizers.build(spec.type, **spec.options)
    learner = build_learner(
        recipe.model,
        recipe.objectives,
        words=tokenizer.vocab_size,
        image_size=recipe.data.image.size,
        seed=recipe.seed,
        attention=recipe.attention,
        activation_checkpointing=recipe.sharding.activation_checkpointing,
    )
    freeze(learner, recipe.freeze)
    groups, sharding = groups_of(learner), recipe.sharding
    if world.size == 1:  # one process holds everything, however the run was sharded
        sharding = sharding.model_copy(update={"strategy": "none"})
    strategy = make_strategy(sharding, learner, recipe.optim, world)
    datasets = {
        name: registry.datasets.build(source.dataset.type, **source.dataset.options)
        for name, source in recipe.data.sources.items()
    }
    facts = facts_of(recipe, lambda: datasets)
    loader = load_steps(
        recipe.data.model_copy(update={"workers": 0}),
        open_mixture(recipe.mixture.strategy, facts, recipe.seed),
        datasets,
        tokenizer,
        seed=recipe.seed,
        first=0,
        last=1,
        rank=world.rank,
        size=world.size,
        patch_grid=math.isqrt(cast(int, learner.backbone.image_encoder.num_patches)),
        with_codebook=any(getattr(h, "needs_codes", False) for h in learner.heads.values()),
        masked=hides(learner),
        codes=open_codes(recipe.data, datasets, learner.codebook),
        accumulated=recipe.balance.step == "accumulated",
        text_multiple=text_multiple(
            compiled=recipe.compile, padding_is_read=recipe.model.padding == "released"
        ),
    )
    diagnosis = Diagnosis(
        DiagnoseSection(),
        strategy,
        learner,
        groups,
        loader,
        recipe.data.sources,
        seed=recipe.seed,
        # no scale of the losses is known that fp16 would need
        precision="fp32" if recipe.precision == "fp16" else recipe.precision,
        clip_norm=recipe.optim.clip_norm,
    )
    balance = Balance(recipe.balance, recipe.objectives)
    records = []
    for each in found:
        strategy.load_model(each.source("model"))
        strategy.load_optimizer(each.source("optim"))
        lr: float = each.state["schedule"]["lr"]
        set_lr(strategy.optimizer, lr)
        state = each.state.get("mixture")
        mixture = open_mixture(recipe.mixture.strategy, facts, recipe.seed, each.step, state)
        weights = each.state["balance"].get("weights", balance.weights)
        records.append(diagnosis.measure(each.step, mixture, weights, lr))
    return [record for record in records if record.is_finite()]
