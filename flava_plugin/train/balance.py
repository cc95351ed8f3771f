"""How the objectives' losses become one number: fixed weights, so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flava_plugin.sections import ObjectiveSection
from flava_plugin.sections_balance import BalanceSection


class Balance:
    """The weight of each objective in the total.

    Args:
        section: The recipe's ``balance``.
        objectives: The recipe's ``objectives``.
    """

    def __init__(self, section: BalanceSection, objectives: Mapping[str, ObjectiveSection]) -> None:
        self.strategy = section.strategy
        self.weights = {name: objective.weight for name, objective in objectives.items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: nothing moves under fixed weights, but they can be read."""
        return {"strategy": self.strategy, "weights": self.weights}
