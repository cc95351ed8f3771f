"""A diagnosis as plain numbers: how the objectives' gradients lie to each other in each encoder.

What is stored are inner products, from which norms, cosines and shares follow for any set of layers
(``balance.jsonl`` has one record a line). Definitions: g is the gradient of an objective's mean
loss on the fixed batch, w its weight, r the share of steps that are of its kind, and c what
clipping leaves of such a step: the largest norm allowed over that of the sum of w g of the kind,
heads included, or 1.

norm      |g|; weighted, |c w g|.
update    |c w D g|, D being AdamW's factor of each element, lr / (sqrt(v) + eps) with the
          bias-corrected second moment v: how far the encoder would go in a step of this gradient
          alone. The first moment and weight decay are left out.
cosine    of two gradients; neither weights nor AdamW have a part in it (PCGrad, arXiv:2001.06782;
          by encoder and layer as in GradVac, arXiv:2010.05874).
share     <r c w D g, U> / <U, U> with U the sum of r c w D g over objectives: how much of the way
          that an encoder goes, over steps of all kinds, is this objective's. Shares add up to 1;
          one below 0 is dragged along against its gradient. Magnitudes decide (GradNorm,
          arXiv:1711.02257; Uni-Perceiver v2, arXiv:2211.09808), but after AdamW's scaling.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Table = list[list[float]]

ENCODERS = ("image", "text", "fused")

READS = 1e-12
"""An objective whose norm is not above this does not read the encoder."""


@dataclass(frozen=True)
class BalanceRecord:
    """One diagnosis.

    Attributes:
        step: Optimiser steps done.
        lr: Learning rate of the last step.
        objectives: Names, in the order of every table.
        weights: Of each objective at that step.
        rates: Share of steps, in those before, that compute each objective; all 1 where unknown.
        losses: Of each objective on its fixed batch.
        gradients: By ``encoder/part``, K x K inner products of gradients.
        updates: The same of what AdamW makes of them, before weights and clipping.
        kinds: Kind of step that computes each objective, one for all where a step has a batch of
            each kind; records of earlier versions have none.
        clip_norm: Largest norm of a step's gradient; None without clipping.
    """

    step: int
    lr: float
    objectives: list[str]
    weights: dict[str, float]
    rates: dict[str, float]
    losses: dict[str, float]
    gradients: dict[str, Table]
    updates: dict[str, Table]
    kinds: dict[str, str] = field(default_factory=dict)
    clip_norm: float | None = None

    @classmethod
    def read(cls, text: str) -> BalanceRecord:
        """Read a line of ``balance.jsonl``.

        Args:
            text: The line.

        Returns:
            The record.

        Raises:
            ValueError: It is none.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"no record of a diagnosis: {error}") from error

    def line(self) -> str:
        """Write a line of ``balance.jsonl``, with eight digits of each product."""
        short = {"gradients": _short(self.gradients), "updates": _short(self.updates)}
        return json.dumps(asdict(self) | short)

    def is_finite(self) -> bool:
        """Whether every product is a number: fp16 can overflow, and a run can diverge."""
        tables = [*self.gradients.values(), *self.updates.values()]
        return all(math.isfinite(value) for table in tables for row in table for value in row)

    def encoders(self) -> list[str]:
        """List the encoders there are."""
        there = {name.partition("/")[0] for name in self.gradients}
        return [name for name in ENCODERS if name in there]

    def parts(self, encoder: str) -> list[str]:
        """List the parts of an encoder.

        Args:
            encoder: Such as ``image``.

        Returns:
            Groups, from the input to the output.
        """
        return [name for name in self.gradients if name.startswith(f"{encoder}/")]

    def norms(self, place: str, *, weighted: bool = False) -> dict[str, float]:
        """Norms of the objectives' gradients.

        Args:
            place: An encoder or a group.
            weighted: Whether with the objectives' weights, and what clipping leaves.

        Returns:
            By objective; 0 where it does not read the encoder.
        """
        table = self._table(self.gradients, place)
        factors = self._factors() if weighted else dict.fromkeys(self.objectives, 1.0)
        return {
            name: math.sqrt(max(0.0, table[k][k])) * factors[name]
            for k, name in enumerate(self.objectives)
        }

    def falls(self, weights: Mapping[str, float]) -> dict[str, float]:
        """How fast losses fall along a weighted sum of gradients, over all that is trained.

        Args:
            weights: By objective; those left out have none.

        Returns:
            By objective, the inner product of its gradient with the sum.
        """
        factors = [weights.get(name, 0.0) for name in self.objectives]
        return {
            name: sum(
                factor * value
                for table in self.gradients.values()
                for factor, value in zip(factors, table[k], strict=True)
            )
            for k, name in enumerate(self.objectives)
        }

    def norm_of_sum(self, weights: Mapping[str, float]) -> float:
        """Norm of a weighted sum of gradients, over all that is trained.

        Args:
            weights: By objective; those left out have none.

        Returns:
            The norm.
        """
        falls = self.falls(weights)
        square = sum(weights.get(name, 0.0) * fall for name, fall in falls.items())
        return math.sqrt(max(0.0, square))

    def clips(self) -> dict[str, float]:
        """What clipping leaves of a step of each kind.

        Returns:
            A factor of at most 1 by kind; empty where kinds are not known.
        """
        found = {}
        for kind in dict.fromkeys(self.kinds.values()):
            own = {n: weight for n, weight in self.weights.items() if self.kinds[n] == kind}
            norm = self.norm_of_sum(own)
            clipped = self.clip_norm is not None and norm > self.clip_norm
            found[kind] = self.clip_norm / norm if self.clip_norm and clipped else 1.0
        return found

    def sizes(self, place: str) -> dict[str, float]:
        """How far each objective alone would move a place in one step.

        Args:
            place: An encoder or a group.

        Returns:
            By objective.
        """
        table, factors = self._table(self.updates, place), self._factors()
        return {
            name: math.sqrt(max(0.0, table[k][k])) * factors[name]
            for k, name in enumerate(self.objectives)
        }

    def cosines(self, place: str) -> dict[tuple[str, str], float]:
        """Cosines of the gradients of all pairs of objectives that read a place.

        Args:
            place: An encoder or a group.

        Returns:
            By pair, in the order of the objectives.
        """
        table, norms = self._table(self.gradients, place), self.norms(place)
        return {
            (one, other): table[i][k] / (norms[one] * norms[other])
            for i, one in enumerate(self.objectives)
            for k, other in enumerate(self.objectives)
            if i < k and min(norms[one], norms[other]) > READS
        }

    def shares(self, place: str) -> dict[str, float]:
        """Each objective's share of the way that a place goes.

        Args:
            place: An encoder or a group.

        Returns:
            By objective; they add up to 1, or all are 0 where nothing moves it yet.
        """
        table = self._table(self.updates, place)
        factors = [factor * self.rates[name] for name, factor in self._factors().items()]
        onto = [
            f * sum(g * value for g, value in zip(factors, row, strict=True))
            for f, row in zip(factors, table, strict=True)
        ]
        whole = sum(onto)
        if whole <= 0.0:
            return dict.fromkeys(self.objectives, 0.0)
        return {name: part / whole for name, part in zip(self.objectives, onto, strict=True)}

    def compact(self) -> dict[str, dict[str, dict[str, float]]]:
        """Give the figures of a line of ``metrics.jsonl``: by encoder norms, shares and cosines."""
        return {
            encoder: {
                "norm": _rounded(self.norms(encoder)),
                "update": _rounded(self.sizes(encoder)),
                "share": _rounded(self.shares(encoder)),
                "cosine": _rounded({f"{a}~{b}": c for (a, b), c in self.cosines(encoder).items()}),
            }
            for encoder in self.encoders()
        }

    def _factors(self) -> dict[str, float]:
        """Weight of each objective in a step, clipping applied."""
        clips = self.clips()
        return {n: self.weights[n] * clips.get(self.kinds.get(n, ""), 1.0) for n in self.objectives}

    def _table(self, tables: Mapping[str, Table], place: str) -> Table:
        if place in tables:
            return tables[place]
        found = [tables[name] for name in self.parts(place)]
        return [
            [sum(values) for values in zip(*rows, strict=True)] for rows in zip(*found, strict=True)
        ]


def read_records(text: str) -> list[BalanceRecord]:
    """Read ``balance.jsonl``.

    Args:
        text: Its contents; a line that is torn or no record is left out.

    Returns:
        One record for each step, the last that was written of it, by rising step.
    """
    found = {}
    for line in text.splitlines():
        try:
            record = BalanceRecord.read(line)
        except ValueError:
            continue
        found[record.step] = record
    return [found[step] for step in sorted(found)]


def _short(tables: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    return {
        name: [[float(f"{value:.8g}") for value in row] for row in table]
        for name, table in tables.items()
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}
