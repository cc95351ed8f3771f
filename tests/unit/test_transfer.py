"""What tasks gain and lose by sharing a run, and what gradient norms speak for, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flava_plugin.balance_record import BalanceRecord
from flava_plugin.evaluate.recommendation import recommend
from flava_plugin.evaluate.transfer import compare, figures_of, means, spread, transfer_text

ROWS = {
    "image alone": [{"fill.mim": 0.5}, {"fill.mim": 0.6}],
    "pair alone": [{"find.r1": 0.3, "match.right": 0.8}, {"find.r1": 0.5, "match.right": 0.8}],
    "joint": [
        {"fill.mim": 0.7, "find.r1": 0.2, "match.right": 0.8},
        {"fill.mim": 0.8, "find.r1": 0.4, "match.right": 0.8},
    ],
}
ALONE = ("image alone", "pair alone")


def test_figures_are_read_without_sizes_and_levels() -> None:
    results = {
        "find": {"r1": 0.5, "gallery_size": 64},
        "match": {"right": 0.6, "right_majority": 0.5, "majority": 0.5, "chance": 0.1},
        "ask": {"cannot": "no head"},
        "seconds": {"train": 3.0},
        "split": "dev",
    }
    assert figures_of(results) == {"find.r1": 0.5, "match.right": 0.6}


def test_one_seed_has_no_standard_error_and_no_verdict() -> None:
    assert str(spread([0.25])) == "0.250" and spread([0.25]).verdict() == ""
    assert spread([0.1, 0.3]) == pytest.approx((0.2, 0.1))
    assert spread([-0.1, -0.1]).verdict() == "loses"
    assert spread([0.1, 0.4]).verdict() == "within 2 s.e."
    assert spread([0.2, 0.3]).verdict() == "gains"


def test_transfer_is_paired_by_seed_and_against_the_best_run_alone() -> None:
    lines = {line.figure: line for line in compare(ROWS, ALONE, ["joint"])}
    mim, found = lines["fill.mim"], lines["find.r1"]
    assert mim.alone is not None and mim.alone[0] == "image alone"
    assert mim.transfer["joint"] == pytest.approx((0.2, 0.0))
    # each run's seeds differ by 0.2, the pairs by nothing: interference is certain
    assert found.joint["joint"].error == pytest.approx(0.1)
    assert found.transfer["joint"] == pytest.approx((-0.1, 0.0))
    assert found.transfer["joint"].verdict() == "loses"
    assert lines["match.right"].transfer["joint"].verdict() == "within 2 s.e."


def test_a_figure_that_no_run_alone_has_stands_by_itself() -> None:
    (line, *_) = compare(ROWS, ["pair alone"], ["joint"])
    assert line.figure == "fill.mim" and line.alone is None and line.transfer == {}
    text = transfer_text(ROWS, ["pair alone"], ["joint"])
    assert "| fill.mim | - | 0.750 ± 0.050 | - |  |" in text


def test_the_mean_is_over_tasks_and_the_table_names_the_best() -> None:
    rows = {**ROWS, "pair alone, long": [{"find.r1": 0.9}, {"find.r1": 0.9}]}
    assert means(ROWS, ["joint"])["joint"].mean == pytest.approx((0.75 + 0.3 + 0.8) / 3)
    text = transfer_text(rows, ALONE, ["joint"], ["pair alone, long"])
    assert "| find.r1 | 0.400 ± 0.100 (pair) | 0.300 ± 0.100 | -0.100 ± 0.000 | loses | 0.9" in text
    assert "| mean of tasks |  | 0.617 ± " in text


def gram(*vectors: list[float]) -> list[list[float]]:
    return [[sum(a * b for a, b in zip(v, w, strict=True)) for w in vectors] for v in vectors]


KINDS = {"mim": "image", "mmm": "pair", "itm": "pair"}
RECORD = BalanceRecord(
    step=1,
    lr=0.1,
    objectives=list(KINDS),
    weights=dict.fromkeys(KINDS, 1.0),
    rates=dict.fromkeys(KINDS, 1.0),
    losses=dict.fromkeys(KINDS, 1.0),
    gradients={
        "image/layer 1": gram([3.0, 0.0], [0.0, 4.0], [0.0, 0.4]),
        "fused/layer 1": gram([0.0], [2.0], [0.5]),
        "heads/all": gram([4.0], [0.0], [0.0]),
    },
    updates={},
    kinds=KINDS,
    clip_norm=None,
)


def test_a_weight_makes_up_for_a_small_gradient_where_it_is_nearest() -> None:
    found = recommend([RECORD], KINDS)
    # itm is a tenth of mmm in the image encoder and a quarter in the fused one; mim has no rival
    assert found.weights == {"mim": 1.0, "mmm": 1.0, "itm": 4.0}
    assert found.clip_norm is None
    louder = {name: [[4 * v for v in row] for row in t] for name, t in RECORD.gradients.items()}
    louder["fused/layer 1"] = gram([0.0], [4.0], [4.0])
    both = recommend([RECORD, replace(RECORD, gradients=louder)], KINDS)
    assert both.weights["itm"] == 2.0  # the geometric mean of 4 and 1


def test_shares_go_by_the_whole_weighted_gradient_of_a_kind() -> None:
    weights = recommend([RECORD], KINDS).weights
    pair = math.hypot(4.0 + 4 * 0.4, 2.0 + 4 * 0.5)  # they point the same way
    of_pairs = {"mmm": weights["mmm"], "itm": weights["itm"]}
    assert RECORD.norm_of_sum(of_pairs, heads=False) == pytest.approx(pair)
    assert RECORD.norm_of_sum({"mim": 1.0}, heads=False) == pytest.approx(3.0)
    assert RECORD.norm_of_sum({"mim": 1.0}) == pytest.approx(5.0)
    shares = recommend([RECORD], KINDS).shares
    assert shares == {"image": round(3 / (3 + pair), 2), "pair": round(pair / (3 + pair), 2)}


def test_clipping_that_favours_a_kind_is_raised_above_all_norms() -> None:
    # norms of the kinds, heads included, are 5 and 5.1: clipped alike
    assert recommend([replace(RECORD, clip_norm=1.0)], KINDS).clip_norm is None
    table = {**RECORD.gradients, "heads/all": gram([4.0], [20.0], [0.0])}
    favoured = recommend([replace(RECORD, clip_norm=1.0, gradients=table)], KINDS)
    assert favoured.clip_norm == float(f"{2 * math.hypot(5.6, 4.0, 20.0):.2g}")


def test_without_a_diagnosis_nothing_is_recommended() -> None:
    with pytest.raises(ValueError, match=r"balance\.diagnose\.every"):
        recommend([], KINDS)
