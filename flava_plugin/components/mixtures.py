"""Which source feeds a step: shares known before a run, by recipe, sizes and steps alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flava_plugin.mixture_types import Facts, Segment, refuse
from flava_plugin.schema import Count, Float, NonNegative, Positive, PositiveFloat, Section

Part = Annotated[Float, Field(gt=0, lt=1)]


class Phase(Section):
    """A phase of ``curriculum``.

    Attributes:
        first: Its first step; it lasts until the next phase begins.
        shares: Shares by source; a source that is not named has 0.
    """

    first: Count
    shares: dict[str, NonNegative]


def fixed(facts: Facts, /) -> list[Segment]:
    """The sources' shares from the first step to the last, as exact quotas.

    Shares set by hand are the baseline that adaptive methods have to beat, and often do not (Kurin
    et al. 2201.04122, Xin et al. 2209.11379, both of loss weights).

    Args:
        facts: The run; every source has a share.

    Returns:
        One segment.
    """
    return [Segment(0, facts.given())]


def temperature(facts: Facts, /, *, temperature: PositiveFloat = 5.0) -> list[Segment]:
    """Worse on shapes. Shares ~ n^(1/T) of sources of n samples: large T, nearly even.

    Against fixed shares of .70, .15, .15 (``tests/benchmarks/RESULTS.md``), mean of seven figures,
    three seeds: -0.102 ± 0.023; there all sources are of one size, so pairs got a third.

    Standard in multilingual training (Arivazhagan et al. 1907.05019, T = 5). It evens out sizes and
    knows nothing of how hard a source is. A sample counts as one, be it a picture or a sentence.

    Args:
        facts: The run; no source has a share.
        temperature: T.

    Returns:
        One segment.
    """
    refuse(facts.ignored())
    sizes = facts.sizes()
    largest = max(sizes.values())  # divided by, since n^(1/T) overflows where T is small
    return [Segment(0, {name: (n / largest) ** (1 / temperature) for name, n in sizes.items()})]


def unimax(facts: Facts, /, *, epochs: PositiveFloat = 4.0) -> list[Segment]:
    """Worse on shapes. Even shares, but none is read more than ``epochs`` times; others take more.

    Against fixed shares of .70, .15, .15 (``tests/benchmarks/RESULTS.md``), mean of seven figures,
    three seeds: -0.102 ± 0.023; there no source ran out, so pairs got a third.

    UniMax (Chung et al. 2304.09151), found there to do better than temperatures: the budget of
    ``steps`` x ``global_batch`` rows is dealt out from the smallest source to the largest, to each
    its even part of what is left, or its cap.

    Args:
        facts: The run; no source has a share.
        epochs: The cap. Up to about four passes over text were worth nearly as much as new text
            (Muennighoff et al. 2305.16264).

    Returns:
        One segment.
    """
    refuse(facts.ignored())
    sizes = facts.sizes()
    budget = facts.steps * facts.global_batch
    if (most := epochs * sum(sizes.values())) < budget:
        refuse(
            [
                f"mixture.strategy.epochs: {epochs:g} of all sources are {most:,.0f} rows, and the "
                f"run reads {budget:,}; raise it to at least {epochs * budget / most:.3g}, or "
                "lower steps or data.global_batch"
            ]
        )
    left, rows = float(budget), dict[str, float]()
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        rows[name] = min(left / (len(sizes) - len(rows)), epochs * sizes[name])
        left -= rows[name]
    return [Segment(0, rows)]


def cooldown(
    facts: Facts, /, *, shares: dict[str, NonNegative], part: Part = 0.2, stages: Positive = 1
) -> list[Segment]:
    """The sources' shares, and others over the last part of the run, while the rate decays.

    Against fixed shares on ``shapes``, mean of seven figures, three seeds: +0.006 ± 0.008 with
    more images and texts at the end.

    Blakeney et al. (2406.03476) switch at once, and find 10 to 20 % of a run best; MiniCPM
    (2404.06395) gives its best data to the last 10 %, in which the learning rate falls. Both are of
    language models. More stages move there in equal steps.

    Args:
        facts: The run; every source has a share, 0 for one that comes at the end only.
        shares: Those of the end, by source; a source that is not named has 0.
        part: Which part of the run the last one is.
        stages: In how many steps the shares move; the last one has ``shares``.

    Returns:
        A segment, and one for each stage.
    """
    start = facts.given(zero=True)
    end, errors = facts.complete(shares, "mixture.strategy.shares")
    _, more = facts.complete(start, "data.sources")
    begin = facts.steps - max(1, round(part * facts.steps))
    if not errors and begin < 1:
        errors.append(
            f"mixture.strategy.part: {part:g} of {facts.steps} steps leaves none before it"
        )
    if stages > facts.steps - begin:
        errors.append(
            f"mixture.strategy.stages: {stages} do not fit into the last {facts.steps - begin} "
            "steps; lower it, or raise part"
        )
    refuse(errors + more)
    # as parts of 1, so that a mean of both lies between them whatever each adds up to
    total, last = sum(start.values()), sum(end.values())
    firsts = [begin + (facts.steps - begin) * n // stages for n in range(stages)]
    moved = [
        {s: (1 - k / stages) * start[s] / total + k / stages * end[s] / last for s in start}
        for k in range(1, stages + 1)
    ]
    lengths = [after - first for first, after in zip(firsts, firsts[1:], strict=False)]
    return [
        Segment(0, start, begin),
        *map(Segment, firsts, [*moved[:-1], end], [*lengths, None]),
    ]


def curriculum(facts: Facts, /, *, phases: dict[str, Phase]) -> list[Segment]:
    """Worse on shapes. Named phases, each with its own shares from its first step on.

    Against fixed shares (``tests/benchmarks/RESULTS.md``), mean of seven figures, three seeds:
    -0.136 ± 0.033 with mostly images and texts in the first 30 % of a run, then mostly pairs.

    FLAVA's encoders learn from images and from text alone before all losses train together
    (2112.04482). That a curriculum helps in general is not shown: Wu et al. (2012.03107) see it
    with little time or noisy labels only.

    Args:
        facts: The run; no source has a share.
        phases: Phases by name: ``{start: {first: 0, shares: {images: 1}}, joint: {first: 500,
            shares: {images: 1, pairs: 4}}}``.

    Returns:
        A segment for each phase.
    """
    errors = facts.ignored()
    ordered = sorted(phases.items(), key=lambda item: item[1].first)
    made: list[Segment] = []
    for name, phase in ordered:
        place = f"mixture.strategy.phases.{name}"
        shares, found = facts.complete(phase.shares, f"{place}.shares")
        errors += found
        if phase.first >= facts.steps:
            errors.append(
                f"{place}.first: step {phase.first} is never reached, the run has {facts.steps}; "
                "lower it, raise steps, or remove the phase"
            )
        if made and made[-1].first == phase.first:
            errors.append(
                f"{place}.first: another phase begins at step {phase.first} too; move one"
            )
        made.append(Segment(phase.first, shares))
    if not made or made[0].first:
        covered = f"the first one begins at step {made[0].first}" if made else "there is none"
        errors.append(f"mixture.strategy.phases: {covered}; give one with first: 0")
    refuse(errors)
    firsts = [segment.first for segment in made]
    lengths = [after - first for first, after in zip(firsts, firsts[1:], strict=False)]
    return [
        segment._replace(length=length)
        for segment, length in zip(made, [*lengths, None], strict=True)
    ]
