"""How the objectives' losses become one number: the weights of a run, and who moves them.

Every rank computes the weights for itself, of numbers that all have to the bit: losses summed over
ranks, and norms of one all-reduced table. They are numbers of the program, no parameters, so that
no sharding strategy touches them. That they are the same is checked each time they are measured,
and every ``CHECKED`` steps where they follow the losses; ranks with other weights would learn from
other losses without a word.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from flava_plugin import registry
from flava_plugin.balance_types import ByGramian, ByLosses, ByNorms, Objectives, Weights
from flava_plugin.sections import ObjectiveSection
from flava_plugin.sections_balance import BalanceSection
from flava_plugin.train.gradient_groups import APART
from flava_plugin.train.gradient_probe import Gradients
from flava_plugin.train.world import World

logger = logging.getLogger(__name__)

CHECKED = 100
"""Steps after which weights that follow the losses are compared over ranks."""


class Balance:
    """The weight of each objective in the total.

    Args:
        section: The recipe's ``balance``.
        objectives: The recipe's ``objectives``.
        seed: The recipe's.

    Attributes:
        accumulated: Whether a step has a batch of each kind.
        surgery: What combines the gradients of a step's objectives; None where they are added up.
    """

    def __init__(
        self,
        section: BalanceSection,
        objectives: Mapping[str, ObjectiveSection],
        seed: int = 0,
    ) -> None:
        self.strategy = section.strategy.type
        self.accumulated = section.step == "accumulated"
        given = Objectives.of(section, objectives, seed)
        made = registry.balances.build(self.strategy, given, **section.strategy.options)
        self.surgery = made if isinstance(made, ByGramian) else None
        self._by_losses = made if isinstance(made, ByLosses) else None
        self._by_norms = made if isinstance(made, ByNorms) else None
        self._given: Weights = made if isinstance(made, Mapping) else given.weights
        self._since = 0

    @property
    def weights(self) -> dict[str, float]:
        """Those of the next step, by objective."""
        moving = self._by_losses or self._by_norms
        return dict(moving.weights if moving else self._given)

    def begun(self, step: int, every: int) -> Weights | None:
        """Look for a change of weights, to report it.

        Args:
            step: A step, the last one before a report.
            every: Steps between reports.

        Returns:
            The weights at ``step``, where they began since the report before; None where they did
            not, and where they never change.
        """
        if not (self._by_losses or self._by_norms) or self._since < step // every * every:
            return None
        return {name: round(weight, 6) for name, weight in self.weights.items()}

    def note(
        self,
        done: int,
        losses: Mapping[str, Tensor],
        measure: Callable[[], Gradients],
        world: World,
    ) -> None:
        """Look at a step that is done, and move the weights of the next one.

        Args:
            done: Optimiser steps done.
            losses: Of the step; an objective without a row, whose loss is 0, changes nothing.
            measure: Measures the gradients, where it is time to; all ranks take part.
            world: All ranks take part.

        Raises:
            ValueError: Ranks have found different weights.
        """
        check = False
        if self._by_losses:
            floats = {name: float(loss) for name, loss in losses.items()}
            seen = {n: loss for n, loss in floats.items() if loss > 0 and math.isfinite(loss)}
            if seen:
                self._by_losses.note(seen)
                self._since = done
            check = not done % CHECKED
        elif self._by_norms and not done % self._by_norms.every:
            norms = norms_of(measure())
            if norms is None:
                logger.warning("step %d: a gradient overflowed; weights stay as they are", done)
                return
            self._by_norms.measure(norms)
            self._since, check = done, True
            found = ", ".join(f"{name} {weight:.3g}" for name, weight in self.weights.items())
            logger.info("weights from step %d on: %s", done, found)
        if check:
            world.require_same("the objectives' weights", json.dumps(self.state()))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; fixed weights do not move, but can be read."""
        moving = self._by_losses or self._by_norms
        own = {"since": self._since, "state": moving.state()} if moving else {}
        return {"strategy": self.strategy, "weights": self.weights, **own}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        if moving := self._by_losses or self._by_norms:
            self._since = int(state["since"])
            moving.load_state(state["state"])


def norms_of(gradients: Gradients) -> dict[str, dict[str, float]] | None:
    """Read the norm of each objective's gradient on each encoder off a measurement.

    Args:
        gradients: Inner products by group.

    Returns:
        By encoder and objective; None where a gradient is not finite. What is in no encoder is left
        out: heads are an objective's own.
    """
    squares: dict[str, list[float]] = {}
    for group, table in gradients.gradients.items():
        if group != APART:
            encoder = group.partition("/")[0]
            before = squares.get(encoder, [0.0] * len(gradients.objectives))
            own = table.diagonal().tolist()
            squares[encoder] = [a + b for a, b in zip(before, own, strict=True)]
    if not all(math.isfinite(value) for row in squares.values() for value in row):
        return None
    return {
        encoder: {n: math.sqrt(v) for n, v in zip(gradients.objectives, row, strict=True)}
        for encoder, row in squares.items()
    }
