"""What a weight strategy is given and what it returns: the shared words of ``balance.strategy``.

A strategy is a registered builder. Of the recipe's objectives it makes their weights
(``dict[str, float]``) where these never change, else what finds them while the run goes on: by the
losses, by the norms of the gradients, or step by step by the gradients' inner products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from flava_plugin.sections import ObjectiveSection
    from flava_plugin.sections_balance import BalanceSection

Weights = Mapping[str, float]
"""Factor of each objective in the total."""


@dataclass(frozen=True)
class Objectives:
    """What a strategy may build on.

    Attributes:
        weights: The recipe's, by objective: what the strategy's own are relative to.
        kinds: Modality by objective.
        step: The recipe's ``balance.step``.
        seed: The recipe's.
    """

    weights: Weights
    kinds: Mapping[str, str]
    step: str = "interleaved"
    seed: int = 0

    @classmethod
    def of(
        cls, section: BalanceSection, objectives: Mapping[str, ObjectiveSection], seed: int = 0
    ) -> Objectives:
        """Read them from a recipe's sections.

        Args:
            section: The recipe's ``balance``.
            objectives: The recipe's ``objectives``.
            seed: The recipe's.

        Returns:
            What a strategy may build on.
        """
        weights = {name: objective.weight for name, objective in objectives.items()}
        kinds = {name: objective.modality for name, objective in objectives.items()}
        return cls(weights, kinds, section.step, seed)


@runtime_checkable
class ByLosses(Protocol):
    """A strategy that follows the losses.

    Attributes:
        weights: Those of the next step.
    """

    weights: Weights

    def note(self, losses: Mapping[str, float]) -> None:
        """Look at a step.

        Args:
            losses: Global mean loss, the same on every rank, of the objectives that the step
                trained and that had a row; positive and finite.
        """
        ...

    def state(self) -> dict[str, object]:
        """What a checkpoint holds, as JSON; copies, as it is written while the run goes on."""
        ...

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        ...


@runtime_checkable
class ByNorms(Protocol):
    """A strategy that follows the norms of the objectives' gradients, measured now and then.

    Attributes:
        every: Steps between measurements.
        weights: Those of the next step.
    """

    every: int
    weights: Weights

    def measure(self, norms: Mapping[str, Mapping[str, float]]) -> None:
        """Look at a measurement.

        Args:
            norms: By encoder and objective, the norm of the gradient of the objective's mean loss,
                weights not applied; finite, 0 where it does not reach the encoder.
        """
        ...

    def state(self) -> dict[str, object]:
        """What a checkpoint holds, as JSON; copies, as it is written while the run goes on."""
        ...

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        ...


@runtime_checkable
class ByGramian(Protocol):
    """A strategy that weighs the gradients of one step by their inner products; keeps nothing."""

    def combine(self, gramian: Sequence[Sequence[float]], step: int) -> list[float]:
        """Choose the factor of each objective's gradient.

        Args:
            gramian: (K, K) inner products of the weighted gradients.
            step: The optimiser step, which chance may depend on.

        Returns:
            K factors.
        """
        ...


def within(value: float, limit: float) -> float:
    """Keep a factor between the inverse of a limit and the limit.

    Args:
        value: Positive.
        limit: At least 1.

    Returns:
        The factor.
    """
    return min(max(value, 1 / limit), limit)


def geometric_mean(values: Sequence[float]) -> float:
    """Average factors.

    Args:
        values: Positive, at least one.

    Returns:
        Their geometric mean.
    """
    return math.exp(sum(map(math.log, values)) / len(values))
