"""An optimiser step's gradients, be it of one kind of batch or of one batch of each kind.

Kinds differ in the parameters they reach, and neither DDP nor FSDP sums gradients whose reach
changes between the passes of one accumulation. So each kind has a whole step of its own, with its
own reduction, and what a rank holds after it is kept aside and added up. Surgery does the same
objective by objective, with a factor for each that comes from the inner products of all.

Memory: the gradients that a rank holds once more, under surgery once for each objective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flava_plugin.data.steps import Step
from flava_plugin.model.learner import Learner
from flava_plugin.train.balance import Balance
from flava_plugin.train.gradient_groups import APART
from flava_plugin.train.gradient_probe import AT_ONCE
from flava_plugin.train.sharding import Strategy
from flava_plugin.train.step import Precision, train_step

Parts = dict[str, Tensor]
"""Gradients that this rank holds, by the learner's own name of the parameter."""


@dataclass(frozen=True)
class Computing:
    """What the steps of a run have in common.

    Attributes:
        strategy: Holds the learner.
        learner: The learner itself.
        balance: What the objectives weigh, and how a step's are combined.
        groups: Group by parameter name, from before the learner was sharded.
        seed: The recipe's.
        precision: The recipe's.
    """

    strategy: Strategy
    learner: Learner
    balance: Balance
    groups: Mapping[str, str]
    seed: int
    precision: Precision

    def step(self, batch: Step, loss_scale: float = 1.0) -> dict[str, Tensor]:
        """Compute the gradients of a step; clipping and updating are the caller's.

        Args:
            batch: This rank's part.
            loss_scale: What gradients are multiplied by.

        Returns:
            Mean loss of every objective that the step trains, as ``train_step`` returns it.
        """
        if not batch.parts:
            return self._pass(batch, (self.seed, batch.step), loss_scale)
        surgery = self.balance.surgery
        losses: dict[str, Tensor] = {}
        passes: list[Parts] = []
        for place, part in enumerate(batch.parts):
            names = self.learner.objectives_of(part.modality) if surgery else [None]
            for name in names:
                seed = (self.seed, batch.step, place)
                losses |= self._pass(part, seed, loss_scale, name)
                passes.append(self._kept())
        factors = [1.0] * len(passes)
        if surgery:
            table = self._gramian(passes) / loss_scale**2
            # one without a row or a weight has no direction, and the shortest gradient of all
            alive = [k for k in range(len(passes)) if table[k, k] > 0]
            if alive and table.isfinite().all():  # else the norm says so, and the step is left out
                chosen = surgery.combine(table[alive][:, alive].tolist(), batch.step)
                for k, factor in zip(alive, self.strategy.world.from_first(chosen), strict=True):
                    factors[k] = factor
        self._put(passes, factors)
        return losses

    def _pass(
        self,
        part: Step,
        seed: Sequence[int],
        loss_scale: float,
        objective: str | None = None,
    ) -> dict[str, Tensor]:
        return train_step(
            self.strategy,
            self.learner,
            part.micro_batches,
            self.balance.weights,
            self.strategy.world,
            seed,
            precision=self.precision,
            loss_scale=loss_scale,
            objective=objective,
        )

    def _kept(self) -> Parts:
        """Copy what this rank holds; the next pass may write into the same memory."""
        self.strategy.owned()  # gradients are where they belong from here on
        return {
            name: parameter.grad.detach().clone()
            for name, parameter in self.strategy.parameters()
            if parameter.grad is not None
        }

    def _gramian(self, passes: Sequence[Parts]) -> Tensor:
        """Inner products on what objectives share, (K, K) fp64 on the CPU, over all ranks."""
        count, device = len(passes), self.strategy.world.device
        table = torch.zeros(count, count, dtype=torch.float64, device=device)
        for shard in self.strategy.owned():
            if self.groups[shard.name] == APART:
                continue
            found = {k: part[shard.name].flatten() for k, part in enumerate(passes)
                     if shard.name in part}  # fmt: skip
            if not found:
                continue
            rows = torch.tensor(list(found), device=device)
            for first in range(0, shard.value.numel(), AT_ONCE):
                own = torch.stack([g[first : first + AT_ONCE].double() for g in found.values()])
                table[rows[:, None], rows] += own @ own.T
        return self.strategy.world.sum_over_ranks(table).cpu()

    def _put(self, passes: Sequence[Parts], factors: Sequence[float]) -> None:
        """Give each parameter the sum, heads without factors: they are an objective's own."""
        for name, parameter in self.strategy.parameters():
            shared = self.groups[name] != APART
            total: Tensor | None = None
            for part, factor in zip(passes, factors, strict=True):
                if name in part:
                    own = part.pop(name)
                    own = own.mul_(factor) if shared and factor != 1.0 else own
                    total = own if total is None else total.add_(own)
            parameter.grad = total
