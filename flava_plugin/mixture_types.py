"""What a mixture strategy is given and what it returns: the shared words of ``mixture.strategy``.

A strategy is a registered builder. Of the facts of a run it makes either the shares of every part
of the run (``list[Segment]``), or, where they depend on the losses, an ``Adaptive``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

Shares = Mapping[str, float]
"""Shares of steps by source; they need not add up to 1."""


class UnknownSizesError(Exception):
    """The sources' sizes are asked for where no data is looked at, as by ``flava show``."""


def no_sizes() -> Mapping[str, int]:
    """Stand in for sizes that nobody counts.

    Returns:
        Never.

    Raises:
        UnknownSizesError: Always.
    """
    raise UnknownSizesError


class Segment(NamedTuple):
    """A part of a run in which shares stay as they are.

    Attributes:
        first: Its first step; it lasts until the next segment begins.
        shares: Share of every source; a source with 0 is not read.
        length: Steps it was planned to last, None for to the end of the run. The quotas come from
            it, so it stays as it is where a run is given more steps.
    """

    first: int
    shares: Shares
    length: int | None = None


@runtime_checkable
class Adaptive(Protocol):
    """A strategy that sets shares by the losses, each time ``every`` steps are done.

    Attributes:
        every: Steps between decisions.
        shares: Those of the first ``every`` steps.
    """

    every: int
    shares: Shares

    def note(self, source: str, losses: Mapping[str, float]) -> None:
        """Look at a step.

        Args:
            source: The step's source.
            losses: Global mean loss by objective, the same on every rank.
        """
        ...

    def decide(self) -> Shares:
        """Choose the shares of the next ``every`` steps, from what was noted alone."""
        ...

    def state(self) -> dict[str, object]:
        """What a checkpoint holds, as JSON."""
        ...

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What ``state`` returned.
        """
        ...


@dataclass(frozen=True)
class Facts:
    """What a strategy may build on.

    Attributes:
        strategy: Its name in the recipe, for messages.
        shares: ``data.sources.*.share`` by source, None where the recipe gives none.
        steps: Steps of the run.
        global_batch: Rows of a step over all ranks.
        objectives: Names of the objectives that a step of a source trains, by source.
        sizes: Counts the samples of every source; it may have to open the data, and raises
            ValueError with a line for each source whose samples cannot be counted.
    """

    strategy: str
    shares: Mapping[str, float | None]
    steps: int
    global_batch: int
    objectives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: Callable[[], Mapping[str, int]] = no_sizes

    def given(self, *, zero: bool = False) -> dict[str, float]:
        """Read the shares that the recipe gives.

        Args:
            zero: Whether a share may be 0.

        Returns:
            The share of every source.

        Raises:
            ValueError: One is missing or 0; a line for each.
        """
        errors = []
        for name, share in self.shares.items():
            place = f"data.sources.{name}.share"
            if share is None:
                errors.append(f"{place}: this key is needed under mixture.strategy {self.strategy}")
            elif not share and not zero:
                errors.append(
                    f"{place}: 0 gives it no step under mixture.strategy {self.strategy}; raise "
                    f"it, or remove the source with data.sources.{name}=null"
                )
        refuse(errors)
        return {name: share for name, share in self.shares.items() if share is not None}

    def ignored(self) -> list[str]:
        """Find shares that nothing would read, for a strategy that has its own.

        Returns:
            A line for each.
        """
        return [
            f"data.sources.{name}.share: mixture.strategy {self.strategy} does not read it; leave "
            f"it out with data.sources.{name}.share=null"
            for name, share in self.shares.items()
            if share is not None
        ]

    def complete(self, shares: Shares, place: str) -> tuple[dict[str, float], list[str]]:
        """Give every source that is not named the share 0.

        Args:
            shares: By source.
            place: Where the recipe says them, for messages.

        Returns:
            The share of every source, and a line for each name that is no source and where no share
            is positive.
        """
        known = ", ".join(self.shares)
        errors = [
            f"{place}.{name}: no source has this name; known: {known}"
            for name in shares
            if name not in self.shares
        ]
        whole = {name: float(shares.get(name, 0.0)) for name in self.shares}
        if not errors and not any(whole.values()):
            errors.append(f"{place}: no source has a positive share; give one, known: {known}")
        return whole, errors


def refuse(errors: list[str]) -> None:
    """Raise what is wrong, all at once.

    Args:
        errors: A line for each.

    Raises:
        ValueError: There is one.
    """
    if errors:
        raise ValueError("\n".join(errors))
