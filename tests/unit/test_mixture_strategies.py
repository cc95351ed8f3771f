"""What each mixture strategy makes of a recipe's numbers and its sources' sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flava_plugin import registry
from flava_plugin.mixture_types import Facts, Segment
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.recipe_mixture import facts_of, sizes_of

SIZES = {"small": 100, "middle": 1000, "large": 10_000}


def facts(
    strategy: str,
    shares: Mapping[str, float | None] | None = None,
    steps: int = 100,
    batch: int = 8,
) -> Facts:
    given = shares or dict.fromkeys(SIZES)
    return Facts(strategy, given, steps, batch, sizes=lambda: {name: SIZES[name] for name in given})


def made(strategy: str, *given: Any, **options: Any) -> list[Segment]:
    segments: list[Segment] = registry.mixtures.build(strategy, facts(strategy, *given), **options)
    return segments


def parts(segment: Segment) -> dict[str, float]:
    total = sum(segment.shares.values())
    return {name: share / total for name, share in segment.shares.items()}


@pytest.mark.parametrize(
    ("t", "expected"),
    [(1, (100, 1000, 10_000)), (2, (10, 31.6228, 100)), (1e9, (1, 1, 1))],
)
def test_temperature_flattens_sizes(t: float, expected: tuple[float, ...]) -> None:
    [segment] = made("temperature", temperature=t)
    wanted = {n: e / sum(expected) for n, e in zip(SIZES, expected, strict=True)}
    assert parts(segment) == pytest.approx(wanted, rel=1e-5)


def test_a_tiny_temperature_overflows_nothing() -> None:
    [segment] = made("temperature", temperature=1e-3)
    assert parts(segment)["large"] == pytest.approx(1)


def test_unimax_is_even_until_a_source_has_been_read_often_enough() -> None:
    """The paper's algorithm 1 by hand: of 9000 rows, 100 x 4 go to small, half the rest to each."""
    [segment] = made("unimax", None, 1125, epochs=4.0)
    assert segment.shares == {"small": 400, "middle": 4000, "large": 4600}
    [segment] = made("unimax", None, 30, epochs=4.0)  # 240 rows: nobody meets the cap
    assert parts(segment) == pytest.approx(dict.fromkeys(SIZES, 1 / 3))


def test_a_cap_that_cannot_hold_is_refused_with_one_that_can() -> None:
    with pytest.raises(
        ValueError, match=r"epochs: 1 of all .* 11,100 rows.* 80,000; .* least 7\.21"
    ):
        made("unimax", None, 10_000, epochs=1.0)
    made("unimax", None, 10_000, epochs=7.21)


def test_a_cooldown_switches_at_once_or_in_stages() -> None:
    base = {"small": 0.0, "middle": 1.0, "large": 3.0}
    end = {"small": 5.0, "large": 5.0}
    once = made("cooldown", base, shares=end, part=0.1)
    assert once == [Segment(0, base, 90), Segment(90, {"small": 5.0, "middle": 0.0, "large": 5.0})]
    staged = made("cooldown", base, shares=end, part=0.4, stages=4)
    assert [segment.first for segment in staged] == [0, 60, 70, 80, 90]
    assert [segment.length for segment in staged] == [60, 10, 10, 10, None]
    assert parts(staged[2]) == pytest.approx({"small": 0.25, "middle": 0.125, "large": 0.625})


def test_a_curriculum_is_sorted_by_its_steps() -> None:
    phases = {"b": {"first": 40, "shares": {"large": 2}}, "a": {"first": 0, "shares": {"small": 1}}}
    assert made("curriculum", phases=phases) == [
        Segment(0, {"small": 1.0, "middle": 0.0, "large": 0.0}, 40),
        Segment(40, {"small": 0.0, "middle": 0.0, "large": 2.0}, None),
    ]


def test_need_measures_against_a_reference_where_there_is_one() -> None:
    shares = {"small": 1.0, "large": 1.0}
    known = Facts("need", shares, 100, 8, {"small": ("mlm",), "large": ("mim", "itm")})
    need = registry.mixtures.build("need", known, reference={"mlm": 2.0}, decay=0.5, strength=1.0)
    need.note("small", {"mlm": 4.0})
    need.note("small", {"mlm": 8.0})
    need.note("large", {"mim": 4.0, "itm": 0.0})  # no pair counted
    need.note("large", {"mim": 2.0, "itm": 0.5})
    assert need.means == {"small": {"mlm": 6.0}, "large": {"mim": 3.0, "itm": 0.5}}
    assert need.need("small") == 3.0 and need.need("large") == (3 / 4 + 1) / 2
    assert need.decide() == {"small": pytest.approx(0.774194), "large": pytest.approx(0.225806)}


def test_a_source_without_known_length_is_named() -> None:
    opened = {"a": [1], "b": iter([1]), "c": OSError("no such file"), "d": []}
    with pytest.raises(ValueError, match="fixed") as refused:
        sizes_of(opened, "unimax")
    found = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in found] == [
        f"data.sources.{n}.dataset" for n in "bcd"
    ]
    for line, why in zip(found, ("has no __len__", "no such file", "no sample"), strict=True):
        assert why in line


NO_SHARES = [f"data.sources.{name}.share=null" for name in ("pairs", "images", "sentences")]


def test_a_strategy_is_named_alone_or_with_options(tmp_path: Path) -> None:
    own = load_recipe("pretrain/shapes")
    assert own.mixture.strategy.type == "fixed"
    overrides = [f"run_dir={tmp_path}", *NO_SHARES]
    alone = load_recipe("pretrain/shapes", [*overrides, "mixture.strategy=temperature"])
    written = load_recipe("pretrain/shapes", [*overrides, "mixture.strategy={type: temperature}"])
    assert alone == written and alone.mixture.strategy.options == {"temperature": 5.0}
    path = tmp_path / "recipe.yaml"
    path.write_text(alone.to_yaml())
    assert load_recipe(str(path)) == alone
    assert facts_of(alone).objectives["sentences"] == ("mlm",)


@pytest.mark.parametrize(
    ("overrides", "errors"),
    [
        (["data.sources.pairs.share=0"], ["data.sources.pairs.share: 0 gives it no step"]),
        (
            NO_SHARES[:2],
            ["sources.pairs.share: this key is needed", "images.share: this key is ne"],
        ),
        (["mixture.strategy=unimaxx"], ["mixture.strategy.type: no mixture named 'unimaxx'"]),
        (["mixture.strategy=[1]"], ["mixture.strategy: "]),
        (["mixture.strategy=cooldown"], ["mixture.strategy.shares: this key is needed"]),
        (
            ["mixture.strategy=temperature", "optim.lrr=1"],
            [
                "optim.lrr: ",
                *(f"{o[:-5]}: mixture.strategy temperature does not" for o in NO_SHARES),
            ],
        ),
        (
            ["mixture.strategy={type: need, every: 9, floor: 0.4, reference: {it: 1}}"],
            ["floor: 0.4 for each of 3 sources", "reference.it: no objective has this name"],
        ),
        (["mixture.strategy={type: need, floor: 0.001}"], ["floor: 0.001 of 100 steps is less"]),
        (
            ["mixture.strategy={type: cooldown, shares: {pair: 1}, part: 0.001, stages: 9}"],
            ["mixture.strategy.shares.pair: no source", "mixture.strategy.stages: 9 do not fit"],
        ),
        (
            [*NO_SHARES, "mixture.strategy={type: unimax, epochs: 0.01}"],
            ["mixture.strategy.epochs: 0.01 of all sources are 6,000 rows"],
        ),
        (
            [
                *NO_SHARES,
                "mixture.strategy={type: curriculum, phases: {a: {first: 5, shares: {pics: 1}}, "
                "b: {first: 5, shares: {}}, c: {first: 1000, shares: {pairs: 1}}}}",
            ],
            [
                "phases.a.shares.pics: no source has this name",
                "phases.b.shares: no source has a positive share",
                "phases.b.first: another phase begins at step 5",
                "phases.c.first: step 1000 is never reached",
                "phases: the first one begins at step 5",
            ],
        ),
        (
            [
                *NO_SHARES,
                "mixture.strategy={type: curriculum, phases: {a: {first: 0, shares: {pairs: 1}}}}",
            ],
            ["data.sources.images: mixture.strategy curriculum never", "data.sources.sentences: "],
        ),
    ],
)
def test_every_error_is_said_at_once(overrides: list[str], errors: list[str]) -> None:
    with pytest.raises(RecipeError) as refused:
        load_recipe("pretrain/shapes", overrides)
    for line, error in zip(sorted(refused.value.lines), sorted(errors, key=_place), strict=True):
        assert error in line


def _place(error: str) -> str:
    return error if error.startswith(("data.", "mixture.", "optim.")) else f"mixture.{error}"


def test_another_package_adds_its_own() -> None:
    @registry.mixtures.register("every_source_alike")
    def alike(facts: Facts, /) -> list[Segment]:
        """All sources alike."""
        return [Segment(0, dict.fromkeys(facts.shares, 1.0))]

    recipe = load_recipe("pretrain/shapes", ["mixture.strategy=every_source_alike"])
    built = registry.mixtures.build(recipe.mixture.strategy.type, facts_of(recipe))
    assert built == [Segment(0, {"pairs": 1.0, "images": 1.0, "sentences": 1.0})]
