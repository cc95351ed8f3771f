"""Which source feeds a step: more steps for the sources that lag behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import Field

from flava_plugin.data.mixture import LONGEST
from flava_plugin.mixture_types import Facts, refuse
from flava_plugin.schema import Float, NonNegative, Positive, PositiveFloat, Share

Decay = Annotated[Float, Field(ge=0, lt=1)]


class Need:
    """Shares follow how far each source's losses are from their reference; never below a floor.

    Against fixed shares on ``shapes``, mean of seven figures, three seeds: -0.008 ± 0.015.

    A source's need is the mean of loss / reference over its objectives, where loss is a moving mean
    over its steps. The next interval's shares are share x need^strength, brought to a sum of 1 and
    raised to the floor. Jean et al. (1909.06434) over-sample translation tasks whose results are
    behind their baseline, and report better ones for tasks with little data; losses of one's own
    single-domain runs are such references. Without one, a loss is measured against its own first
    value, as GradNorm's training rate is (Chen et al. 1711.02257): what has come down least gets
    more steps. A loss that cannot be learnt keeps its need, so give it a reference.

    Shares change after ``every`` steps and nothing is read ahead past a change, since what comes
    next is not decided until then: each interval begins with a step that waits for its data, which
    costs the time one worker takes to read it (on ``pretrain/shapes`` about 0.1 s).

    Args:
        facts: The run; every source has a share, that of a need of 1.
        every: Steps of an interval; 100 or more keep what waiting costs small.
        floor: Least share of a source; ``floor`` x ``every`` is at least one step.
        decay: Of the moving mean, for each step of a source.
        strength: 0 leaves the shares as they are, more follows the need more sharply.
        reference: Loss by objective that counts as a need of 1.
    """

    def __init__(
        self,
        facts: Facts,
        /,
        *,
        every: Positive = 100,
        floor: Share = 0.05,
        decay: Decay = 0.9,
        strength: NonNegative = 1.0,
        reference: dict[str, PositiveFloat] = {},  # noqa: B006, the schema's; never changed
    ) -> None:
        base = facts.given()
        errors, place = [], "mixture.strategy"
        if floor * len(base) > 1:
            errors.append(
                f"{place}.floor: {floor:g} for each of {len(base)} sources is more than all; lower "
                f"it to at most {1 / len(base):.3g}"
            )
        block = min(every, LONGEST)
        if floor * block < 1:
            errors.append(
                f"{place}.floor: {floor:g} of {block} steps is less than one, and a source that is "
                f"not read has no loss; raise it to {1 / block:.3g}"
                + (", or every" if every < LONGEST else "")
            )
        trained = dict.fromkeys(name for names in facts.objectives.values() for name in names)
        errors += [
            f"{place}.reference.{name}: no objective has this name; known: {', '.join(trained)}"
            for name in reference
            if name not in trained
        ]
        refuse(errors)
        self.every = every
        self.floor = floor
        self.decay = decay
        self.strength = strength
        self.reference = reference
        self.base = {name: share / sum(base.values()) for name, share in base.items()}
        self.shares = _above(self.base, floor)
        self.means: dict[str, dict[str, float]] = {name: {} for name in base}
        self.firsts: dict[str, dict[str, float]] = {name: {} for name in base}

    def note(self, source: str, losses: Mapping[str, float]) -> None:
        """Look at a step; see ``Adaptive``.

        Args:
            source: The step's source.
            losses: Global mean loss by objective.
        """
        means, firsts = self.means[source], self.firsts[source]
        for name, loss in losses.items():
            if loss > 0:  # 0 where no row counted
                firsts.setdefault(name, loss)
                means[name] = self.decay * means.get(name, loss) + (1 - self.decay) * loss

    def need(self, source: str) -> float:
        """Measure how far a source lags behind.

        Args:
            source: Its name.

        Returns:
            1 at the reference, more above it; 1 while there is no loss yet.
        """
        firsts = self.firsts[source]
        ratios = [
            mean / self.reference.get(name, firsts[name])
            for name, mean in self.means[source].items()
        ]
        return sum(ratios) / len(ratios) if ratios else 1.0

    def decide(self) -> dict[str, float]:
        """Choose the shares of the next interval, rounded so that a checkpoint holds few digits."""
        wanted = {
            name: share * self.need(name) ** self.strength for name, share in self.base.items()
        }
        return _above(wanted, self.floor)

    def state(self) -> dict[str, object]:
        """What a checkpoint holds: copies, as it is written while the run goes on."""
        return {
            "means": {name: dict(means) for name, means in self.means.items()},
            "firsts": {name: dict(firsts) for name, firsts in self.firsts.items()},
        }

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        saved = cast(Mapping[str, Any], state)
        for name in self.base:
            self.means[name] = dict(saved["means"][name])
            self.firsts[name] = dict(saved["firsts"][name])


def _above(wanted: Mapping[str, float], floor: float) -> dict[str, float]:
    """Bring shares to a sum of 1 with none below the floor; the others keep their proportions."""
    raised: set[str] = set()
    while True:
        others = {name: share for name, share in wanted.items() if name not in raised}
        scale = (1 - floor * len(raised)) / sum(others.values()) if others else 0.0
        below = {name for name, share in others.items() if share * scale < floor}
        if not below:
            break
        raised |= below
    return {
        name: floor if name in raised else round(share * scale, 6) for name, share in wanted.items()
    }
