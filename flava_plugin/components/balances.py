"""What the objectives' losses weigh: fixed weights, and those that follow the losses' values.

Losses of masked words and of matched pairs are all of order 0.5 to 4 while the norms of their
gradients can differ a hundredfold, which a strategy that sees values alone cannot know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import Field

from flava_plugin.balance_types import Objectives, Weights, within
from flava_plugin.schema import Float, PositiveFloat

Decay = Annotated[Float, Field(ge=0, lt=1)]
Limit = Annotated[Float, Field(ge=1)]


def fixed(objectives: Objectives, /) -> dict[str, float]:
    """The weights that the recipe gives its objectives.

    Set by hand they are the baseline that adaptive methods have to beat, and often do not (Kurin et
    al. 2201.04122, Xin et al. 2209.11379). ``flava balance RUN`` says what to set them to.

    Args:
        objectives: The recipe's.

    Returns:
        The weights.
    """
    return dict(objectives.weights)


class Ema:
    """Worse on shapes. The recipe's weight over a moving mean of the loss: every loss counts as 1.

    Against ``fixed`` weights of 1 (``tests/benchmarks/RESULTS.md``), mean of seven figures, three
    seeds: -0.026 ± 0.010.

    The fixed point of uncertainty weighting in closed form, without its delay. What is almost
    solved gains weight, hence the limit.

    Args:
        objectives: The recipe's.
        decay: Of the moving mean, for each step that trains an objective.
        limit: A weight is at most this many times the recipe's, and at least that part of it.
    """

    def __init__(
        self, objectives: Objectives, /, *, decay: Decay = 0.99, limit: Limit = 10.0
    ) -> None:
        self.given = objectives.weights
        self.decay = decay
        self.limit = limit
        self.means: dict[str, float] = {}

    @property
    def weights(self) -> Weights:
        """The recipe's until an objective is seen first."""
        return {
            name: weight * within(1 / self.means.get(name, 1.0), self.limit)
            for name, weight in self.given.items()
        }

    def note(self, losses: Mapping[str, float]) -> None:
        """Look at a step; see ``ByLosses``.

        Args:
            losses: By objective.
        """
        for name, loss in losses.items():
            mean = self.means.get(name, loss)
            self.means[name] = self.decay * mean + (1 - self.decay) * loss

    def state(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return {"means": dict(self.means)}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        self.means = dict(cast(Any, state)["means"])


class ScalarAdam:
    """Adam for a few numbers by name, each with its own count of updates.

    They are the same on every rank, whatever the sharding of the model, and have no weight decay.

    Args:
        names: Of the numbers, which start at 0.
        lr: Learning rate.
        betas: Decay of both moments.
    """

    def __init__(self, names: list[str], lr: float, betas: tuple[float, float]) -> None:
        self.lr = lr
        self.betas = betas
        self.values = {name: [0.0, 0.0, 0.0, 0.0] for name in names}  # value, moments, updates

    def __getitem__(self, name: str) -> float:
        """A number's value."""
        return self.values[name][0]

    def update(self, name: str, gradient: float, bound: float = math.inf) -> None:
        """Move a number against its gradient.

        Args:
            name: Which.
            gradient: Its gradient.
            bound: Largest absolute value.
        """
        value, first, second, count = self.values[name]
        b1, b2 = self.betas
        first, second = b1 * first + (1 - b1) * gradient, b2 * second + (1 - b2) * gradient**2
        count += 1
        root = math.sqrt(second / (1 - b2**count)) + 1e-8
        value -= self.lr * first / (1 - b1**count) / root
        self.values[name] = [max(-bound, min(bound, value)), first, second, count]

    def state(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return {name: list(numbers) for name, numbers in self.values.items()}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        self.values = {name: list(cast(Any, state)[name]) for name in self.values}


class Uncertainty:
    """Learnt uncertainties (Kendall et al. 1705.07115): weight x exp(-s), s learnt with the model.

    Against ``fixed`` weights of 1 on ``shapes``, mean of seven figures, three seeds:
    -0.030 ± 0.035.

    The total has exp(-s) L + s / 2 for each loss, whose gradient exp(-s) L = 1/2 makes 0: inverse
    losses, with a delay. An almost solved loss would get an unbounded weight, hence the limit. The
    numbers s have no weight decay and a learning rate of their own: at a model's (1e-3) they had
    moved by 0.08 to 0.14 after 480 steps of ``pretrain/shapes``.

    Args:
        objectives: The recipe's.
        lr: Learning rate of s, 10 to 100 times the usual one of a model.
        limit: A weight is at most this many times the recipe's, and at least that part of it.
    """

    def __init__(
        self, objectives: Objectives, /, *, lr: PositiveFloat = 0.03, limit: Limit = 10.0
    ) -> None:
        self.given = objectives.weights
        self.limit = limit
        self.learnt = ScalarAdam(list(self.given), lr, (0.9, 0.999))

    @property
    def weights(self) -> Weights:
        """By objective."""
        return {name: weight * math.exp(-self.learnt[name]) for name, weight in self.given.items()}

    def note(self, losses: Mapping[str, float]) -> None:
        """Look at a step; see ``ByLosses``.

        Args:
            losses: By objective.
        """
        for name, loss in losses.items():
            gradient = 0.5 - math.exp(-self.learnt[name]) * loss
            self.learnt.update(name, gradient, math.log(self.limit))

    def state(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return self.learnt.state()

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        self.learnt.load_state(state)


class Famo:
    """Worse on shapes. Weights under which losses fall alike (FAMO, Liu et al. 2306.03792).

    Amortised: by the change since an objective was last seen. Against ``fixed`` weights of 1
    (``tests/benchmarks/RESULTS.md``), mean of seven figures, three seeds: -0.056 ± 0.007.

    FAMO weighs by z / L, z a softmax of learnt numbers that follow how much each log loss fell at
    the last step, which takes all losses on one batch twice. Here a loss is a moving mean over the
    steps that train it, and how much it fell is measured since the step that saw it last. Weights
    are brought to a mean of 1 and multiplied by the recipe's.

    Args:
        objectives: The recipe's.
        lr: Learning rate of the numbers (the paper's code: 0.025).
        decay: Of the moving mean, for each step that trains an objective.
        pull: Weight decay of the numbers, towards equal z (the paper's code: 0.001).
        limit: A weight is at most this many times the recipe's, and at least that part of it.
    """

    def __init__(
        self,
        objectives: Objectives,
        /,
        *,
        lr: PositiveFloat = 0.025,
        decay: Decay = 0.9,
        pull: Decay = 0.001,
        limit: Limit = 10.0,
    ) -> None:
        self.given = objectives.weights
        self.decay = decay
        self.pull = pull
        self.limit = limit
        self.learnt = ScalarAdam(list(self.given), lr, (0.9, 0.999))
        self.means: dict[str, float] = {}

    @property
    def weights(self) -> Weights:
        """The recipe's until an objective is seen first."""
        raw = {name: z / self.means[name] for name, z in self._softmax().items()}
        mean = sum(raw.values()) / len(raw) if raw else 1.0
        return {
            name: weight * within(raw.get(name, mean) / mean, self.limit)
            for name, weight in self.given.items()
        }

    def note(self, losses: Mapping[str, float]) -> None:
        """Look at a step; see ``ByLosses``.

        Args:
            losses: By objective.
        """
        fell: dict[str, float] = {}
        for name, loss in losses.items():
            before = self.means.get(name)
            if before is None:
                self.means[name] = loss
                continue
            self.means[name] = self.decay * before + (1 - self.decay) * loss
            fell[name] = math.log(before / self.means[name])
        shares = self._softmax()
        mean = sum(shares[name] * value for name, value in fell.items())
        for name in fell:  # what a step does not train keeps its number
            gradient = shares[name] * (fell[name] - mean) + self.pull * self.learnt[name]
            self.learnt.update(name, gradient)

    def state(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return {"learnt": self.learnt.state(), "means": dict(self.means)}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        saved = cast(Any, state)
        self.learnt.load_state(saved["learnt"])
        self.means = dict(saved["means"])

    def _softmax(self) -> dict[str, float]:
        """Shares of the objectives seen so far."""
        grown = {name: math.exp(self.learnt[name]) for name in self.means}
        return {name: value / sum(grown.values()) for name, value in grown.items()}
