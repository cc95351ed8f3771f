"""What tasks gain and lose by sharing a run, and what gradient norms speak for, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flava_plugin.balance_record import BalanceRecord
from flava_plugin.evaluate.fair_shares import FLOOR, fair_shares, worths
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
    near = {**RECORD.gradients, "fused/layer 1": gram([0.0], [2.0], [1.1])}
    assert recommend([replace(RECORD, gradients=near)], KINDS).weights["itm"] == 1.0


def test_what_a_step_of_another_kind_is_worth() -> None:
    # in the image encoder mim is (3, 1) here, a step of pairs (1, 4); 4 in mim's head
    table = gram([3.0, 1.0], [0.5, 4.0], [0.5, 0.0])
    record = replace(RECORD, gradients={**RECORD.gradients, "image/layer 1": table})
    found = worths([record], KINDS, dict.fromkeys(KINDS, 1.0))
    assert found["image"]["mim"] == found["pair"]["mmm"] == found["pair"]["itm"] == 1.0
    assert found["pair"]["mim"] == pytest.approx((3 * 1 + 1 * 4) / (3 * 3 + 1 * 1 + 4 * 4))
    mmm, itm = 0.5 * 1 + 4 * 4 + 2 * 2.5, 0.5 * 1 + 0.5 * 2.5  # along the step of pairs
    assert found["image"]["mmm"] == pytest.approx((3 * 0.5 + 1 * 4) / mmm)
    assert found["image"]["itm"] == pytest.approx((3 * 0.5) / itm)
    # sums are divided, not ratios averaged; and of what weights make of them
    faint = {name: [[v / 100 for v in row] for row in t] for name, t in RECORD.gradients.items()}
    both = worths([record, replace(RECORD, gradients=faint)], KINDS, dict.fromkeys(KINDS, 1.0))
    assert both["pair"]["mim"] == pytest.approx(7 / (26 + 0.25))
    heavy = worths([record], KINDS, {"mim": 1.0, "mmm": 2.0, "itm": 1.0})
    assert heavy["pair"]["mim"] == pytest.approx((3 * 1.5 + 1 * 8) / 26)


def test_an_objective_that_its_own_kind_does_not_lower_is_left_to_it() -> None:
    against = {"image/layer 1": gram([1.0], [4.0], [-1.0])}
    found = worths([replace(RECORD, gradients=against)], KINDS, dict.fromkeys(KINDS, 1.0))
    assert found["pair"]["itm"] == 1.0 and found["image"]["itm"] == 0.0


def test_shares_go_by_the_number_of_objectives_where_kinds_teach_each_other_nothing() -> None:
    assert recommend([RECORD], KINDS).shares == {"image": 0.33, "pair": 0.67}
    alone = {"image": {"mim": 1.0, "mmm": -0.5}, "pair": {"mim": -0.2, "mmm": 1.0}}
    assert fair_shares(alone) == pytest.approx({"image": 0.5, "pair": 0.5})
    assert fair_shares({"pair": {"mmm": 1.0}}) == pytest.approx({"pair": 1.0})


def test_shares_are_those_whose_progress_multiplies_to_the_most() -> None:
    found = {
        "image": {"mim": 1.0, "mlm": 0.0, "mmm": 0.2, "itm": 0.0},
        "text": {"mim": 0.0, "mlm": 1.0, "mmm": 0.1, "itm": 0.1},
        "pair": {"mim": 0.1, "mlm": 0.02, "mmm": 1.0, "itm": 1.0},
    }

    def gain(image: float, text: float) -> float:
        of = {"image": image, "text": text, "pair": 1.0 - image - text}
        each = (sum(of[kind] * row[name] for kind, row in found.items()) for name in found["pair"])
        return math.prod(each)

    shares = fair_shares(found)
    assert sum(shares.values()) == pytest.approx(1.0)
    best = gain(shares["image"], shares["text"])
    steps = [k / 100 for k in range(3, 90)]
    assert best >= max(gain(i, t) for i in steps for t in steps if i + t < 0.97) > 0.99 * best
    # what pairs teach enough of is left at the floor
    taught = {**found, "pair": {**found["pair"], "mim": 0.9}}
    assert fair_shares(taught)["image"] == pytest.approx(FLOOR, abs=1e-6)


def test_clipping_that_favours_a_kind_is_raised_above_all_norms() -> None:
    # norms of the kinds, heads included, are 5 and 5.1: clipped alike
    assert recommend([replace(RECORD, clip_norm=1.0)], KINDS).clip_norm is None
    table = {**RECORD.gradients, "heads/all": gram([4.0], [20.0], [0.0])}
    favoured = recommend([replace(RECORD, clip_norm=1.0, gradients=table)], KINDS)
    assert favoured.clip_norm == float(f"{2 * math.hypot(5.6, 4.0, 20.0):.2g}")


def test_without_a_diagnosis_nothing_is_recommended() -> None:
    with pytest.raises(ValueError, match=r"balance\.diagnose\.every"):
        recommend([], KINDS)
