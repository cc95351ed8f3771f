"""What each rank does with weights that move; ``test_balance.py`` says what must hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import cases
import shared_batches
import torch
from strategy_cases import STRATEGIES, Tensors, missing, on_this_machine, state

from flava_plugin import registry
from flava_plugin.balance_types import Objectives
from flava_plugin.data.steps import Step
from flava_plugin.schema import Component
from flava_plugin.sections import ShardingSection
from flava_plugin.sections_balance import BalanceSection
from flava_plugin.train.accumulated import Computing
from flava_plugin.train.balance import Balance
from flava_plugin.train.gradient_groups import groups_of
from flava_plugin.train.gradient_probe import probe_gradients
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.world import World
from flava_plugin.types import Modality

STEPS = 3
KINDS: tuple[Modality, ...] = ("pair", "image", "text")


@registry.balances.register("norms_alike")
class NormsAlike:
    """Surgery that can be computed by hand: every gradient at length 1, and a drop of the next.

    Args:
        objectives: The recipe's.
    """

    def __init__(self, objectives: Objectives, /) -> None:
        self.objectives = objectives

    def combine(self, gramian: Sequence[Sequence[float]], step: int) -> list[float]:
        return [
            1 / (row[k] + 1e-6) ** 0.5 + 0.1 * row[(k + 1) % len(row)]
            for k, row in enumerate(gramian)
        ]


BALANCES = {
    "fixed": BalanceSection(step="accumulated"),
    "ema": BalanceSection(strategy=Component(type="ema", decay=0.5), step="accumulated"),
    "norms": BalanceSection(strategy=Component(type="gradient_norm", every=2)),
    "surgery": BalanceSection(strategy=Component(type="norms_alike"), step="accumulated"),
}

SHARDED = ("ema", "norms", "surgery")
"""Those that ranks run."""


def batch_of(world: World, number: int, kind: Modality) -> Step:
    """One rank's part; a micro-batch or two, of pairs with a rank that has no match."""
    flags = cases.POSITIVES["uneven" if number % 2 else "none in the last micro-batch"]
    whole = shared_batches.batch(kind, cases.ROWS, flags)
    micro_batches = shared_batches.share(whole, world.rank, world.size, 1 + number % 2)
    return Step(number, kind, kind, micro_batches, [])


def trained(world: World, name: str, balancing: str) -> Tensors:
    """A short run: losses, weights and the state at its end."""
    learner = shared_batches.learner(seed=world.rank)
    groups = groups_of(learner)
    objectives = {
        n: section.model_copy(update={"weight": shared_batches.WEIGHTS[n]})
        for n, section in shared_batches.objectives(1024).items()
    }
    section = ShardingSection(strategy=name)  # type: ignore[arg-type]
    strategy = make_strategy(section, learner, cases.OPTIM, world)
    balance = Balance(BALANCES[balancing], objectives, seed=0)
    computing = Computing(strategy, learner, balance, groups, 0, "fp32")
    fixed = {kind: batch_of(world, 0, kind).micro_batches for kind in KINDS}
    measure = partial(probe_gradients, strategy, learner, fixed, groups, seed=(0, 9))
    found: Tensors = {}
    for number in range(STEPS):
        parts = tuple(batch_of(world, number, kind) for kind in KINDS)
        batch = parts[number % 3]
        if balance.accumulated:
            batch = Step(number, "all", "pair", [], [], parts=parts)
        losses = computing.step(batch, loss_scale=4.0)
        found |= {f"{number}/{n}": loss for n, loss in losses.items()}
        found[f"{number}/norm"] = strategy.clip_grad_norm(1.0, loss_scale=4.0)
        strategy.step()
        balance.note(number + 1, losses, measure, world)
        weights = torch.tensor(list(balance.weights.values()), dtype=torch.float64)
        found[f"{number}/weights"] = weights
    return found | cast(Tensors, state(strategy))


def everything(world: World) -> Tensors:
    found: Tensors = {}
    for name in STRATEGIES:
        if missing(name):
            continue
        with on_this_machine(name):
            for balancing in SHARDED:
                tensors = trained(world, name, balancing)
                found |= {f"{name}/{balancing}/{n}": tensor for n, tensor in tensors.items()}
    return found
