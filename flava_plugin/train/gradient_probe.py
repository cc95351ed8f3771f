"""The gradient of each objective at one point, compared part by part, whatever the sharding.

K objectives take K forward and K backward passes, each of what one objective needs: a second
backward pass over a kept graph is not summed over ranks under DDP, and meets parameters that were
given back under FSDP2. Gradients are read where a strategy keeps them after its own reduction;
those that ``torch.autograd.grad`` returns have gone through none. Every rank multiplies the parts
it owns (``Strategy.owned``), and one all-reduce of G x 2 x K x K numbers does the rest.

Nothing is dropped, so that a diagnosis does not depend on the number of ranks and differs from the
one before by the weights alone; batch norms take their running statistics, and leave them.

Memory: K times the gradients that a rank owns. Nothing else is left behind: weights, optimiser
state and random state stay bit for bit what they were, and gradients are dropped, as the next
training step would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flava_plugin.model.backbone import draws
from flava_plugin.model.learner import Learner
from flava_plugin.train.sharding import Strategy
from flava_plugin.train.sharding.shards import Shard
from flava_plugin.train.step import Precision, train_step
from flava_plugin.types import Batch, Modality

AT_ONCE = 2**20
"""Elements that are multiplied at a time, in double precision."""


@dataclass(frozen=True)
class Gradients:
    """How the gradients of K objectives lie to each other, the same on every rank.

    Attributes:
        objectives: Their names.
        losses: Mean loss of each on its batch.
        gradients: By group, (K, K) fp64 on the CPU: inner products of the gradients of the
            objectives' mean losses, weights not applied.
        updates: The same of what AdamW would make of them: each gradient times its learning rate
            and over the root of its (bias-corrected) second moment plus eps, weights not applied;
            first moment, weight decay and clipping left out. 0 where a parameter was never
            updated.
    """

    objectives: list[str]
    losses: dict[str, float]
    gradients: dict[str, Tensor]
    updates: dict[str, Tensor]


def probe_gradients(
    strategy: Strategy,
    learner: Learner,
    batches: Mapping[Modality, Sequence[Batch]],
    groups: Mapping[str, str],
    *,
    seed: Sequence[int],
    precision: Precision = "fp32",
    loss_scale: float = 1.0,
) -> Gradients:
    """Measure the gradient of every objective that one of the batches feeds; all ranks take part.

    Args:
        strategy: Holds the learner; its gradients are dropped, everything else stays as it is.
        learner: The learner itself.
        batches: By kind this rank's part of a global batch, in micro-batches.
        groups: Group by parameter name (``gradient_groups.groups_of``).
        seed: What a foreign module may draw that is none of those ``undisturbed`` knows.
        precision: Of the forward pass.
        loss_scale: What losses are multiplied by on the way back, and gradients divided by after.

    Returns:
        Inner products by group.
    """
    names = [n for kind in batches for n in learner.objectives_of(kind)]
    owned, losses = strategy.owned(), {}
    parts: list[dict[str, Tensor]] = []
    with undisturbed(learner):
        for name in names:
            measured = train_step(
                strategy,
                learner,
                batches[learner.modalities[name]],
                {name: 1.0},
                strategy.world,
                seed,
                precision=precision,
                loss_scale=loss_scale,
                objective=name,
            )
            losses[name] = float(measured[name])
            parts.append(_copy(strategy.owned(), loss_scale))
    strategy.zero_grad()
    places = {group: number for number, group in enumerate(dict.fromkeys(groups.values()))}
    count, device = len(names), strategy.world.device
    table = torch.zeros(len(places), 2, count, count, dtype=torch.float64, device=device)
    scales = dict(_scales(strategy, owned))
    for shard in owned:
        found = {k: part[shard.name] for k, part in enumerate(parts) if shard.name in part}
        if found:
            rows = torch.tensor(list(found), device=device)
            products = _products(list(found.values()), scales.get(shard.name))
            table[places[groups[shard.name]]][:, rows[:, None], rows] += products
    summed = strategy.world.sum_over_ranks(table).cpu()
    return Gradients(
        names,
        losses,
        {group: summed[number, 0] for group, number in places.items()},
        {group: summed[number, 1] for group, number in places.items()},
    )


@contextmanager
def undisturbed(learner: nn.Module) -> Iterator[None]:
    """Have dropout drop nothing, and batch norms use and keep their running statistics.

    All else computes as in training.

    Args:
        learner: Possibly sharded.

    Yields:
        None: While it is so.
    """
    changed = [
        module
        for module in learner.modules()
        if module.training and (draws(module) or isinstance(module, _BatchNorm))
    ]
    for module in changed:
        module.training = False
    try:
        yield
    finally:
        for module in changed:
            module.training = True


def _copy(shards: Sequence[Shard], loss_scale: float) -> dict[str, Tensor]:
    """Copy the gradients of one backward pass; the next one may write into the same memory."""
    return {
        shard.name: shard.value.grad.detach().flatten().clone() / loss_scale
        for shard in shards
        if shard.value.grad is not None
    }


def _scales(strategy: Strategy, owned: Sequence[Shard]) -> Iterator[tuple[str, Tensor]]:
    """By name, what AdamW multiplies each element of a first moment by."""
    # FairScale's OSS holds an AdamW of what this rank owns; others are AdamW themselves.
    state: Mapping[Any, Any] = getattr(strategy.optimizer, "optim", strategy.optimizer).state
    groups = {p: group for group in strategy.optimizer.param_groups for p in group["params"]}
    for shard in owned:
        moments = state.get(shard.value)
        if moments and shard.value in groups:
            group = groups[shard.value]
            corrected = moments["exp_avg_sq"] / (1 - group["betas"][1] ** float(moments["step"]))
            yield shard.name, group["lr"] / (corrected.sqrt() + group["eps"]).flatten()


def _products(gradients: Sequence[Tensor], scale: Tensor | None) -> Tensor:
    """Inner products of gradients and of updates, (2, k, k) fp64."""
    count = len(gradients)
    sums = torch.zeros(2, count, count, dtype=torch.float64, device=gradients[0].device)
    for first in range(0, gradients[0].numel(), AT_ONCE):
        own = torch.stack([g[first : first + AT_ONCE].double() for g in gradients])
        sums[0] += own @ own.T
        if scale is not None:
            own *= scale[first : first + AT_ONCE].double()
            sums[1] += own @ own.T
    return sums
