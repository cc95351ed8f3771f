"""Shares that change: whose turn a step is stays a function of seed, step and segments."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from data_stubs import LetterTokenizer, Pairs, Pictures, Sentences, section

from flava_plugin import registry
from flava_plugin.data.loader import Loader, load_steps
from flava_plugin.data.mixture import source_at
from flava_plugin.data.mixture_run import Mixture, fixed_mixture, open_mixture, rejoin
from flava_plugin.mixture_types import Facts, Segment
from flava_plugin.schema import Component

NAMES = ("pairs", "sentences", "pictures")
SHARES = dict(zip(NAMES, (0.5, 0.25, 0.25), strict=True))
OBJECTIVES = {"pairs": ("itm",), "sentences": ("mlm",), "pictures": ("mim",)}
LOSSES = {"pairs": 0.7, "sentences": 2.0, "pictures": 5.0}
STEPS = 60

STRATEGIES: dict[str, dict[str, Any]] = {
    "fixed": {},
    "temperature": {"temperature": 2.0},
    "unimax": {"epochs": 30.0},
    "cooldown": {"shares": {"pictures": 1.0}, "part": 0.5, "stages": 3},
    "curriculum": {
        "phases": {
            "alone": {"first": 0, "shares": {"sentences": 1}},
            "joint": {"first": 13, "shares": {"pairs": 4, "pictures": 1, "sentences": 1}},
            "late": {"first": 41, "shares": {"pairs": 1, "pictures": 1}},
        }
    },
    "need": {"every": 10, "floor": 0.1},
}


def facts(name: str, steps: int = STEPS) -> Facts:
    own = name in ("fixed", "cooldown", "need")
    shares: dict[str, float | None] = dict(SHARES) if own else dict.fromkeys(NAMES)
    sizes = {"pairs": 11, "sentences": 7, "pictures": 5}
    return Facts(name, shares, steps, 8, OBJECTIVES, lambda: sizes)


def opened(name: str, first: int = 0, state: Any = None, steps: int = STEPS) -> Mixture:
    saved = None if state is None else json.loads(json.dumps(state))  # as a checkpoint keeps it
    chosen = Component(type=name, **STRATEGIES[name])
    return open_mixture(chosen, facts(name, steps), 4, first, saved)


def losses(step: int, source: str) -> dict[str, float]:
    """As of a run in which sentences are learnt and pictures hardly."""
    rate = {"pairs": 0.02, "sentences": 0.05, "pictures": 0.001}[source]
    return {OBJECTIVES[source][0]: LOSSES[source] * (1 - rate) ** step}


def follow(mixture: Mixture, first: int, last: int) -> list[tuple[str, int]]:
    """Whose turn it is, step by step, while the mixture is told of the losses."""
    turns = []
    for step in range(first, last):
        source = mixture.source_at(step)
        turns.append((source, mixture.steps_before(step, source)))
        mixture.note(step, source, losses(step, source))
    return turns


@pytest.mark.parametrize("name", STRATEGIES)
def test_stopped_anywhere_the_turns_go_on_and_count_every_step(name: str) -> None:
    whole = follow(opened(name), 0, STEPS)
    seen: Counter[str] = Counter()
    for source, before in whole:
        assert before == seen[source]
        seen[source] += 1
    for stop in (1, 9, 10, 11, 13, 30, 40, 41, 59):
        mixture = opened(name)
        assert follow(mixture, 0, stop) == whole[:stop]
        assert follow(opened(name, stop, mixture.state()), stop, STEPS) == whole[stop:]


def test_fixed_shares_are_drawn_as_ever() -> None:
    mixture = opened("fixed")
    assert [mixture.source_at(n) for n in range(200)] == [
        source_at(n, SHARES, 4) for n in range(200)
    ]
    # as runs of earlier versions drew them, which their checkpoints go on with
    drawn = " ".join(mixture.source_at(n) for n in range(8))
    assert drawn == "pictures pairs sentences pairs sentences pairs pairs pictures"


def test_quotas_of_every_segment_are_exact() -> None:
    turns = [source for source, _ in follow(opened("curriculum"), 0, STEPS)]
    assert set(turns[:13]) == {"sentences"}
    assert Counter(turns[13:41]) == {"pairs": 18, "pictures": 5, "sentences": 5}  # of 28
    assert set(turns[41:]) == {"pairs", "pictures"}
    turns = [source for source, _ in follow(opened("cooldown"), 0, STEPS)]
    assert Counter(turns[:30]) == {"pairs": 15, "pictures": 8, "sentences": 7}
    assert set(turns[50:]) == {"pictures"}


def test_need_gives_more_to_what_comes_down_least_and_never_less_than_the_floor() -> None:
    mixture = opened("need")
    follow(mixture, 0, STEPS)
    assert [segment.first for segment in mixture.segments] == [0, 10, 20, 30, 40, 50, 60]
    first, last = mixture.segments[0].shares, mixture.segments[-1].shares
    assert last["pictures"] > first["pictures"] and last["sentences"] < first["sentences"]
    for segment in mixture.segments:
        assert min(segment.shares.values()) >= 0.1
        assert sum(segment.shares.values()) == pytest.approx(1, abs=1e-5)


def test_a_source_that_is_at_its_floor_keeps_one_step_of_every_interval() -> None:
    made = registry.mixtures.build("need", facts("need"), every=15, floor=1 / 15, strength=9.0)
    mixture = Mixture([Segment(0, made.shares, 15)], 4, made)
    turns = [source for source, _ in follow(mixture, 0, 600)]
    for start in range(0, 600, 15):
        assert set(turns[start : start + 15]) == set(NAMES)


def test_a_far_step_is_computed_from_the_segments_alone() -> None:
    """A million steps, decided on every hundred: what a resumed run has to do before it goes on."""
    shares = [{"pairs": 0.5 + n % 7 / 100, "sentences": 0.25, "pictures": 0.25} for n in range(7)]
    segments = [Segment(100 * n, shares[n % 7], 100) for n in range(10_000)]
    mixture = Mixture(segments, 4)
    step = 10**6 - 1
    assert sum(mixture.steps_before(step, name) for name in NAMES) == step


def test_more_steps_or_other_data_do_not_rewrite_the_past() -> None:
    short = opened("cooldown", steps=40)
    done = follow(short, 0, 40)
    longer = opened("cooldown", 40, short.state(), steps=STEPS)
    seen = Counter(source for source, _ in done)
    for source, before in follow(longer, 40, STEPS):
        assert before == seen[source]
        seen[source] += 1
    base, end = {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 0.0}
    saved = [Segment(0, base, 20), Segment(20, end)]
    planned = [Segment(0, base, 80), Segment(80, end)]
    assert rejoin(saved, saved, 30) == saved
    assert rejoin(saved, planned, 30) == [*saved, Segment(30, base, 50), Segment(80, end)]
    assert rejoin(saved, planned, 80) == [*saved, Segment(80, end)]


def test_changes_are_told_once_and_where_nothing_changes_never() -> None:
    mixture = opened("curriculum")
    told = {n + 1: mixture.begun(n, 10) for n in range(9, STEPS, 10)}
    assert [step for step, shares in told.items() if shares] == [10, 20, 50]
    assert told[50] == {"pairs": 0.5, "sentences": 0.0, "pictures": 0.5}
    assert not any(opened("temperature").begun(n, 10) for n in range(STEPS))


def test_a_source_that_is_never_read_is_refused_by_name() -> None:
    phases = {"all": {"first": 0, "shares": {"pairs": 1, "sentences": 1}}}
    with pytest.raises(ValueError, match=r"data\.sources\.pictures: .* curriculum never reads it"):
        open_mixture(Component(type="curriculum", phases=phases), facts("curriculum"), 0)


def load(mixture: Mixture, first: int = 0, *, rank: int = 0, size: int = 1, workers: int) -> Loader:
    datasets = {"pairs": Pairs(11), "sentences": Sentences(), "pictures": Pictures()}
    return load_steps(
        section(workers=workers, prefetch=8), mixture, datasets, LetterTokenizer(),
        seed=4, first=first, last=STEPS, rank=rank, size=size, patch_grid=4, with_codebook=True,
    )  # fmt: skip


def rows(loader: Loader, last: int = STEPS) -> list[Any]:
    found = []
    for step in loader:
        batch = step.micro_batches[0]
        what = batch.image if batch.text is None else batch.text
        found.append((step.step, step.source, step.epoch, [row.tolist() for row in what]))
        loader.turns.mixture.note(step.step, step.source, losses(step.step, step.source))
        if step.step + 1 == last:
            break
    return found


def unpadded(found: list[Any]) -> list[Any]:
    return [(*head, [[x for x in row if x != 0] if source != "pictures" else row for row in what])
            for *head, what in found for source in (head[1],)]  # fmt: skip


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("name", ["need", "curriculum"])
def test_ranks_workers_and_stops_change_no_batch(name: str) -> None:
    alone = unpadded(rows(load(opened(name), workers=0)))
    first = opened(name)
    assert unpadded(rows(load(first, workers=2), last=23)) == alone[:23]
    ranks = [
        unpadded(rows(load(opened(name, 23, first.state()), 23, rank=r, size=2, workers=r)))
        for r in range(2)
    ]
    for number, (step, source, epoch, whole) in enumerate(alone[23:]):
        assert [rank[number][:3] for rank in ranks] == [(step, source, epoch)] * 2
        assert [ranks[row % 2][number][3][row // 2] for row in range(8)] == whole


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_read_past_a_decision(workers: int) -> None:
    loader = load(opened("need"), workers=workers)
    steps = iter(loader)
    assert [next(steps).step for _ in range(10)] == list(range(10))
    assert loader.turns.span == range(10)  # what workers may ask for, however far they read ahead
    with pytest.raises(RuntimeError, match="step 10 is not decided"):
        next(steps)


def test_shares_known_beforehand_are_read_in_one_go() -> None:
    assert load(opened("curriculum"), workers=0).turns.span == range(STEPS)
    assert load(fixed_mixture(SHARES, 4), workers=0).turns.span == range(STEPS)
