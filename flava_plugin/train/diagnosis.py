"""Diagnoses of a run: every so many steps, the objectives' gradients on fixed batches.

What a diagnosis finds is a function of the recipe, the step and the weights, so a resumed run finds
the same; and it leaves the run bit for bit what it would be without (``gradient_probe.py``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import cached_property

from flava_plugin.balance_record import BalanceRecord
from flava_plugin.data.fixed_batches import fixed_batches
from flava_plugin.data.loader import Loader
from flava_plugin.data.mixture_run import Mixture
from flava_plugin.model.learner import Learner
from flava_plugin.sections_balance import DiagnoseSection
from flava_plugin.sections_data import SourceSection
from flava_plugin.train.gradient_probe import Gradients, probe_gradients
from flava_plugin.train.sharding import Strategy
from flava_plugin.train.step import Precision
from flava_plugin.types import Batch, Modality

logger = logging.getLogger(__name__)

WINDOW = 1000
"""Steps, at most, from whose kinds the share of each kind is taken."""


class Diagnosis:
    """Measures a run.

    Args:
        section: The recipe's ``balance.diagnose``; None for never.
        strategy: Holds the learner.
        learner: The learner itself.
        groups: Group by parameter name, from before the learner was sharded.
        loader: Reads the run's data; read from when the first diagnosis is due, not moved on.
        sources: The recipe's ``data.sources``.
        seed: The recipe's.
        precision: The recipe's.
        clip_norm: The recipe's ``optim.clip_norm``.
    """

    def __init__(
        self,
        section: DiagnoseSection | None,
        strategy: Strategy,
        learner: Learner,
        groups: Mapping[str, str],
        loader: Loader,
        sources: Mapping[str, SourceSection],
        *,
        seed: int,
        precision: Precision,
        clip_norm: float | None,
    ) -> None:
        self.every = section.every if section else 0
        self.strategy = strategy
        self.learner = learner
        self.groups = groups
        self.loader = loader
        self.kinds = {name: source.modality for name, source in sources.items()}
        self.seed = seed
        self.precision = precision
        self.clip_norm = clip_norm
        self._began = time.monotonic()
        self._spent = 0.0

    @cached_property
    def batches(self) -> dict[Modality, list[Batch]]:
        """The fixed batches, by kind."""
        return fixed_batches(self.loader)

    def due(self, done: int) -> bool:
        """Whether it is time.

        Args:
            done: Optimiser steps done.

        Returns:
            The same on every rank.
        """
        return bool(self.every) and not done % self.every

    def gradients(self, loss_scale: float = 1.0) -> Gradients:
        """Measure; all ranks take part.

        Args:
            loss_scale: Of fp16.

        Returns:
            Inner products by group, weights not applied.
        """
        return probe_gradients(
            self.strategy,
            self.learner,
            self.batches,
            self.groups,
            seed=(self.seed, 0, 1),
            precision=self.precision,
            loss_scale=loss_scale,
        )

    def measure(
        self,
        done: int,
        mixture: Mixture,
        weights: Mapping[str, float],
        lr: float,
        loss_scale: float = 1.0,
    ) -> BalanceRecord:
        """Measure, and say at what weights and shares of steps; all ranks take part.

        Args:
            done: Optimiser steps done.
            mixture: Which source fed these steps.
            weights: Of the objectives.
            lr: Learning rate of the last step.
            loss_scale: Of fp16.

        Returns:
            The record.
        """
        started = time.monotonic()
        found = self.gradients(loss_scale)
        kinds: dict[str, str] = {name: self.learner.modalities[name] for name in found.objectives}
        if self.loader.turns.rounds:  # a step has a batch of each kind
            rates = dict.fromkeys(kinds, 1.0)
            kinds = dict.fromkeys(kinds, "all")
        else:
            shares = kind_shares(mixture, self.kinds, done)
            rates = {name: shares.get(self.learner.modalities[name], 0.0) for name in kinds}
        record = BalanceRecord(
            step=done,
            lr=lr,
            objectives=found.objectives,
            weights={name: weights[name] for name in found.objectives},
            rates=rates,
            losses=found.losses,
            gradients={name: table.tolist() for name, table in found.gradients.items()},
            updates={name: table.tolist() for name, table in found.updates.items()},
            kinds=kinds,
            clip_norm=self.clip_norm,
        )
        now = time.monotonic()
        self._spent += now - started
        logger.info(
            "diagnosis at step %d: %.1f s; all so far %.1f %% of the time",
            done,
            now - started,
            100 * self._spent / max(now - self._began, 1e-9),
        )
        if not record.is_finite():
            logger.warning("diagnosis at step %d: a gradient overflowed; it is left out", done)
        return record


def kind_shares(
    mixture: Mixture, sources: Mapping[str, Modality], done: int
) -> dict[Modality, float]:
    """Count which kinds the last steps were of.

    Args:
        mixture: Which source fed them.
        sources: Kind by source.
        done: Optimiser steps done; up to ``WINDOW`` of them count.

    Returns:
        Share of steps by kind.
    """
    last, first = done - 1, max(0, done - WINDOW)
    shares: dict[Modality, float] = {}
    for name, kind in sources.items():
        count = mixture.steps_before(last, name) - mixture.steps_before(first, name)
        count += mixture.source_at(last) == name
        shares[kind] = shares.get(kind, 0.0) + count / (done - first)
    return shares
