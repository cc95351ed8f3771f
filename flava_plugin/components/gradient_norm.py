"""What the objectives' losses weigh: weights that bring their gradients to one size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import Field

from flava_plugin.balance_types import Objectives, Weights, geometric_mean, within
from flava_plugin.schema import Float, Positive, Share

Decay = Annotated[Float, Field(ge=0, lt=1)]
Limit = Annotated[Float, Field(ge=1)]

LEAST = 1e-6
"""Part of the largest norm on an encoder under which an objective does not reach it."""


class GradientNorm:
    """Worse on shapes. Weights that bring the objectives' gradients on the encoders to one size.

    Against ``fixed`` weights of 1 (``tests/benchmarks/RESULTS.md``), mean of seven figures, three
    seeds: -0.093 ± 0.006.

    Every ``every`` steps the gradient of each objective is measured on fixed batches, as
    ``flava balance`` does. On each encoder an objective's factor is target / norm, the target being
    the geometric mean of the norms there, and its weight is the recipe's times the geometric mean
    of its factors over the encoders that its gradient reaches: the recipe's weights say how large
    gradients shall be relative to each other. Uni-Perceiver v2 (Li et al. 2211.09808) divides each
    task's gradient by its norm at every step, for tasks that take turns; GradNorm (Chen et al.
    1711.02257) learns weights by a backward pass through the norms. This one has neither the cost:
    norms are a moving mean over few measurements. Clipping, which has its own say in what a kind of
    step weighs, is not seen.

    It knows how large gradients are, not which of them should be larger: from weights of 1 on
    ``pretrain/shapes`` it found 10.4 for ITM after 300 steps (set by hand there: 12), and 0.13 for
    the contrastive loss (12), whose gradient is the largest of all once it has left its plateau. So
    give the contrastive objective a larger weight in the recipe.

    Args:
        objectives: The recipe's.
        every: Steps between measurements; one takes as long as 3.3 steps of ``pretrain/shapes``.
        decay: Of the moving mean of the logarithms of the norms, for each measurement.
        strength: 0 leaves the recipe's weights, 1 evens all norms out.
        limit: A weight is at most this many times the recipe's, and at least that part of it.
    """

    def __init__(
        self,
        objectives: Objectives,
        /,
        *,
        every: Positive = 100,
        decay: Decay = 0.5,
        strength: Share = 1.0,
        limit: Limit = 20.0,
    ) -> None:
        self.given = objectives.weights
        self.every = every
        self.decay = decay
        self.strength = strength
        self.limit = limit
        self.logs: dict[str, dict[str, float]] = {}

    @property
    def weights(self) -> Weights:
        """The recipe's until something is measured."""
        factors: dict[str, list[float]] = {name: [] for name in self.given}
        for logs in self.logs.values():
            norms = {name: math.exp(log) for name, log in logs.items() if self.given[name]}
            if len(norms) > 1:  # an encoder that one objective has to itself says nothing
                target = geometric_mean(list(norms.values()))
                for name, norm in norms.items():
                    factors[name].append((target / norm) ** self.strength)
        # rounded, so that a checkpoint and a line of metrics hold few digits
        return {
            name: round(weight * within(geometric_mean(own), self.limit), 6) if own else weight
            for (name, weight), own in zip(self.given.items(), factors.values(), strict=True)
        }

    def measure(self, norms: Mapping[str, Mapping[str, float]]) -> None:
        """Look at a measurement; see ``ByNorms``.

        Args:
            norms: By encoder and objective.
        """
        for encoder, own in norms.items():
            logs, largest = self.logs.setdefault(encoder, {}), max(own.values())
            for name, norm in own.items():
                if norm > LEAST * largest:
                    log = math.log(norm)
                    logs[name] = self.decay * logs.get(name, log) + (1 - self.decay) * log

    def state(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return {"logs": {encoder: dict(logs) for encoder, logs in self.logs.items()}}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        saved = cast(Any, state)["logs"]
        self.logs = {encoder: dict(logs) for encoder, logs in saved.items()}
