"""The mixture of a run: segments with shares of their own, one after the other.

Which source feeds a step, and how many of its steps came before, is a function of the seed, the
step and the segments. The segments of most strategies are known before the run; those of one that
follows the losses are added as it goes on, and a checkpoint holds them all. So a resumed run reads
on where it was, and computes its place from the segments alone, not from the steps done.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from flava_plugin import registry
from flava_plugin.data.mixture import quotas, source_at, steps_before
from flava_plugin.mixture_types import Adaptive, Facts, Segment, Shares
from flava_plugin.schema import Component

logger = logging.getLogger(__name__)


class Mixture:
    """Which source feeds each step of a run.

    Args:
        segments: In order, the first one from step 0 on.
        seed: Seed of the run.
        adaptive: What decides on further segments; None where all are known.

    Raises:
        ValueError: A share is too small for a step in its segment.
    """

    def __init__(
        self, segments: Sequence[Segment], seed: int, adaptive: Adaptive | None = None
    ) -> None:
        self.seed = seed
        self.adaptive = adaptive
        self.segments: list[Segment] = []
        self._firsts: list[int] = []
        self._before: list[dict[str, int]] = []
        for segment in segments:
            self._add(segment)

    @property
    def known_until(self) -> int | None:
        """One past the last step whose source is decided; None where all are."""
        last = self.segments[-1]
        return last.first + self.adaptive.every if self.adaptive else None

    def source_at(self, step: int) -> str:
        """Choose the source of a step.

        Args:
            step: Optimiser step, counted from 0; less than ``known_until``.

        Returns:
            The name of the source.
        """
        first, shares, length = self.segments[self._number(step)]
        return source_at(step - first, shares, self.seed, first, length)

    def steps_before(self, step: int, source: str) -> int:
        """Count the steps of a source before a step.

        Args:
            step: As for ``source_at``.
            source: Name of the source.

        Returns:
            How many of the steps 0 to ``step - 1`` are the source's.
        """
        number = self._number(step)
        return self._before[number][source] + self._within(self.segments[number], step, source)

    def steps_of(self, source: str, steps: int) -> int:
        """Count the steps that a source has in a run, as far as that is known.

        Args:
            source: Name of the source.
            steps: Steps of the run.

        Returns:
            Their number; where shares follow the losses, the last known shares go on.
        """
        number = max(0, self._number(steps - 1))
        segment = self.segments[number]
        until = self.known_until
        if until is None or steps <= until:
            return self._before[number][source] + self._within(segment, steps, source)
        share = segment.shares[source] / sum(segment.shares.values())
        return self.steps_before(segment.first, source) + round((steps - segment.first) * share)

    def begun(self, step: int, every: int) -> Shares | None:
        """Look for a change of shares, to report it.

        Args:
            step: A step, the last one before a report.
            every: Steps between reports.

        Returns:
            The shares at ``step``, in parts of 1, where they began since the report before; None
            where they did not, and where they never change.
        """
        segment = self.segments[self._number(step)]
        if segment.first < step // every * every or (
            self.adaptive is None and len(self.segments) == 1
        ):
            return None
        total = sum(segment.shares.values())
        return {name: round(share / total, 6) for name, share in segment.shares.items()}

    def note(self, step: int, source: str, losses: Mapping[str, float]) -> Segment | None:
        """Look at a step that is done, and decide on what comes next where it is time.

        Args:
            step: Its number.
            source: Its source.
            losses: Global mean loss by objective, the same on every rank.

        Returns:
            The next segment, where one was decided on.
        """
        if self.adaptive is None:
            return None
        self.adaptive.note(source, losses)
        if step + 1 != self.known_until:
            return None
        shares = self.adaptive.decide()
        return self._add(Segment(step + 1, shares, self.adaptive.every))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        adaptive = {"adaptive": self.adaptive.state()} if self.adaptive else {}
        segments = [[first, dict(shares), length] for first, shares, length in self.segments]
        return {"segments": segments, **adaptive}

    def _add(self, segment: Segment) -> Segment:
        quotas(segment.shares, segment.length)  # refuses shares without a step
        before = dict.fromkeys(segment.shares, 0)
        if self.segments:
            last = self.segments[-1]
            before = {
                name: self._before[-1][name] + self._within(last, segment.first, name)
                for name in segment.shares
            }
        self.segments.append(segment)
        self._firsts.append(segment.first)
        self._before.append(before)
        return segment

    def _number(self, step: int) -> int:
        return bisect_right(self._firsts, step) - 1

    def _within(self, segment: Segment, step: int, source: str) -> int:
        first, shares, length = segment
        return steps_before(step - first, source, shares, self.seed, first, length)


def open_mixture(
    strategy: Component,
    facts: Facts,
    seed: int,
    first: int = 0,
    state: Mapping[str, Any] | None = None,
) -> Mixture:
    """Make the mixture of a run, or go on with it.

    Args:
        strategy: The recipe's ``mixture.strategy``.
        facts: What it may build on.
        seed: Seed of the run.
        first: First step that is still to be done.
        state: What a checkpoint holds of it; what it says of the steps before ``first`` stays, even
            where more steps or other data would plan them otherwise.

    Returns:
        The mixture.

    Raises:
        ValueError: The strategy refuses the recipe, or a source is never read.
    """
    made = registry.mixtures.build(strategy.type, facts, **strategy.options)
    adaptive = made if isinstance(made, Adaptive) else None
    planned = [Segment(0, made.shares, made.every)] if isinstance(made, Adaptive) else made
    if state is not None:
        saved = [Segment(*each) for each in state["segments"]]
        planned = saved if adaptive else rejoin(saved, planned, first)
        if adaptive:
            adaptive.load_state(state["adaptive"])
    unread = [
        f"data.sources.{name}: mixture.strategy {strategy.type} never reads it; give it a share, "
        f"or remove it with data.sources.{name}=null"
        for name in facts.shares
        if not any(segment.shares[name] for segment in planned)
    ]
    if unread:
        raise ValueError("\n".join(unread))
    mixture = Mixture(planned, seed, adaptive)
    if strategy.type != "fixed":
        logger.info("mixture.strategy %s: %s", strategy.type, describe(mixture))
    return mixture


def rejoin(saved: list[Segment], planned: list[Segment], first: int) -> list[Segment]:
    """Go on with a plan that may have changed since, without changing what has been done.

    Args:
        saved: The segments of a checkpoint.
        planned: Those that the strategy makes now.
        first: First step that is still to be done.

    Returns:
        ``saved`` where nothing changed; else what of it began before ``first``, and the new plan
        from there on.
    """
    if saved == planned:
        return saved
    past = [segment for segment in saved if segment.first < first]
    future = [segment for segment in planned if segment.first >= first]
    now = [segment for segment in planned if segment.first < first][-1:]
    if past and now and past[-1] == now[0]:
        return [*past, *future]  # so far both are the same
    if now and not (future and future[0].first == first):
        left = None if now[0].length is None else now[0].first + now[0].length - first
        now = [Segment(first, now[0].shares, left)]
        return [*past, *now, *future]
    return [*past, *future]


def describe(mixture: Mixture) -> str:
    """Say the shares of a mixture in a line.

    Args:
        mixture: The mixture.

    Returns:
        Shares of the first and of up to three later segments, in per cent.
    """
    said = []
    for first, shares, _ in mixture.segments[:4]:
        total = sum(shares.values())
        parts = ", ".join(f"{name} {share / total:.1%}" for name, share in shares.items())
        said.append(f"from step {first} {parts}")
    more = len(mixture.segments) - 4
    return "; ".join(said) + (f"; and {more} more changes" if more > 0 else "")


def fixed_mixture(shares: Shares, seed: int) -> Mixture:
    """Make a mixture whose shares never change.

    Args:
        shares: Share of steps by source.
        seed: Seed of the run.

    Returns:
        The mixture.
    """
    return Mixture([Segment(0, shares)], seed)
