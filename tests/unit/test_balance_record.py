"""What a diagnosis says, worked out by hand; its table and its heat maps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_flava import tiny_learner
from torch import nn

from flava_plugin.balance_record import BalanceRecord, read_records
from flava_plugin.evaluate.balance_figures import balance_sections, diverging
from flava_plugin.evaluate.balance_findings import findings
from flava_plugin.evaluate.balance_table import balance_text
from flava_plugin.train import gradient_groups
from flava_plugin.train.gradient_groups import groups_of
from flava_plugin.train.gradient_probe import undisturbed
from flava_plugin.train.metrics import MetricLog


def products(*vectors: list[float]) -> list[list[float]]:
    return [[sum(a * b for a, b in zip(v, w, strict=True)) for w in vectors] for v in vectors]


# Three objectives; in two layers of the image encoder, "far" reads the text encoder only.
RECORD = BalanceRecord(
    step=20,
    lr=0.5,
    objectives=["big", "small", "far"],
    weights={"big": 1.0, "small": 2.0, "far": 1.0},
    rates={"big": 0.5, "small": 0.25, "far": 0.25},
    losses={"big": 1.0, "small": 2.0, "far": 3.0},
    gradients={
        "image/embeddings": products([3.0, 0.0], [0.0, 0.02], [0.0, 0.0]),
        "image/layer 1": products([0.0, 4.0], [0.0, -0.015], [0.0, 0.0]),
        "text/layer 1": products([0.0], [0.0], [2.0]),
        "heads/all": products([9.0], [9.0], [9.0]),
    },
    updates={
        "image/embeddings": products([6.0, 0.0], [0.0, 8.0], [0.0, 0.0]),
        "image/layer 1": products([0.0], [0.0], [0.0]),
        "text/layer 1": products([0.0], [0.0], [1.0]),
        "heads/all": products([0.0], [0.0], [0.0]),
    },
)


def test_norms_add_up_over_the_parts_of_an_encoder() -> None:
    assert RECORD.encoders() == ["image", "text"]
    assert RECORD.norms("image") == pytest.approx({"big": 5.0, "small": 0.025, "far": 0.0})
    assert RECORD.norms("image", weighted=True)["small"] == pytest.approx(0.05)
    assert RECORD.norms("image/layer 1")["big"] == pytest.approx(4.0)


def test_a_cosine_is_of_whole_encoders_and_of_objectives_that_read_them() -> None:
    assert RECORD.cosines("image") == pytest.approx({("big", "small"): -0.06 / (5.0 * 0.025)})
    assert RECORD.cosines("image/embeddings") == pytest.approx({("big", "small"): 0.0})
    assert RECORD.cosines("text") == {}


def test_shares_follow_weights_and_rates_and_add_up_to_one() -> None:
    # big moves 0.5 * 6 = 3 along one axis, small 0.25 * 2 * 8 = 4 along the other
    expected = {"big": 9 / 25, "small": 16 / 25, "far": 0.0}
    assert RECORD.shares("image") == pytest.approx(expected)
    assert RECORD.sizes("image") == pytest.approx({"big": 6.0, "small": 16.0, "far": 0.0})
    assert RECORD.shares("heads/all") == {"big": 0.0, "small": 0.0, "far": 0.0}


def test_clipping_counts_and_a_kind_that_it_favours_is_named() -> None:
    # a pair step is big + 2 * small, heads included; a text step is far alone
    pair = (3**2 + 4**2 + 9**2) + 4 * (0.02**2 + 0.015**2 + 9**2) + 4 * (-0.06 + 81)
    text = 2**2 + 9**2
    record = replace(RECORD, kinds={"big": "pair", "small": "pair", "far": "text"}, clip_norm=12.0)
    assert record.clips() == pytest.approx({"pair": 12 / pair**0.5, "text": 1.0})
    assert text < 12**2 < pair
    left = record.clips()["pair"]
    assert record.norms("image") == RECORD.norms("image")
    assert record.norms("image", weighted=True)["small"] == pytest.approx(0.05 * left)
    assert record.sizes("image")["big"] == pytest.approx(6.0 * left)
    assert record.shares("image") == pytest.approx(RECORD.shares("image"))  # both are of one kind
    (said,) = [line for line in findings(record) if line.startswith("clipping")]
    assert said.startswith(f"clipping leaves 1 of a step of kind text and {left:.2g} of one of")
    assert f"text has {1 / left:.1f} times the weight" in said
    for free in (replace(record, clip_norm=None), RECORD):
        assert set(free.clips().values()) <= {1.0}
        assert "clipping" not in " ".join(findings(free))


def test_it_says_who_is_starved_and_who_is_in_conflict() -> None:
    record = replace(RECORD, objectives=["big", "small", "far"])
    text = " ".join(findings(record))
    assert "big and small are in conflict in the image encoder: cosine -0.48" in text
    assert "small is starved in the image encoder: its weighted gradient is 0.05" in text
    assert "text" not in text
    fed = replace(record, weights={**record.weights, "small": 100.0})
    assert "small is starved" not in " ".join(findings(fed))


def test_it_is_written_and_read_back(tmp_path: Path) -> None:
    later = replace(RECORD, step=30)
    text = "\n".join([later.line(), RECORD.line(), later.line()[:50], '{"step": 4}', "[1]"])
    assert [record.step for record in read_records(text)] == [20, 30]
    assert read_records(text)[0] == RECORD


def test_a_diagnosis_that_overflowed_is_left_out(tmp_path: Path) -> None:
    overflowed = replace(RECORD, step=10, gradients={"text/layer 1": [[float("inf")]]})
    with MetricLog(
        tmp_path, first=0, global_batch=8, seconds=0.0, tensorboard=False, writes=True
    ) as log:
        log.log_balance(overflowed)
        log.log_balance(RECORD)
    for file in ("metrics.jsonl", "balance.jsonl"):
        (line,) = (tmp_path / file).read_text().splitlines()
        assert json.loads(line)["step"] == 20


def test_the_table_and_the_maps_show_every_objective(tmp_path: Path) -> None:
    text = balance_text([RECORD, replace(RECORD, step=30)])
    assert "step 30" in text and "gradient norm by step: 20, 30" in text
    row = next(line for line in text.splitlines() if line.startswith("far (weight 1)"))
    assert row.split()[-2:] == ["-", "2"]
    deep = balance_text([RECORD], parts=True)
    norms = deep.partition("image encoder: gradient norm, weights not applied")[2].splitlines()
    assert norms[1].split() == ["embeddings", "layer", "1"]
    assert norms[2].split() == ["big", "(weight", "1)", "3", "4"]
    assert not norms[4]  # "far" does not read the image encoder
    assert balance_sections(tmp_path) == []
    lines = (replace(RECORD, step=step).line() for step in range(100))
    (tmp_path / "balance.jsonl").write_text("\n".join(lines))
    (page,) = balance_sections(tmp_path)
    assert page.count(", step 99:") == page.count(", step 0:") > 0
    assert page.count(", step ") == 40 * page.count(", step 0:")  # of 100 diagnoses 40 columns
    assert "far, text/layer 1: 2<" in page and "big, small, step 0: -0.48" in page
    assert "small is starved" in page and "Steps 0 to 99" in page


def test_red_is_against_and_blue_is_with() -> None:
    assert diverging(-0.5) != diverging(0.5)
    assert diverging(-7.0) == diverging(-1.0)


def test_each_parameter_is_in_the_part_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = tiny_learner()
    groups = groups_of(learner)
    assert groups.keys() == dict(learner.named_parameters(remove_duplicate=False)).keys()
    expected = {
        "backbone.image_encoder.embeddings.cls_token": "image/embeddings",
        "backbone.image_encoder.layernorm.weight": "image/final",
        "backbone.text_encoder.embeddings.word_embeddings.weight": "text/embeddings",
        "backbone.mm_encoder.cls_token": "fused/embeddings",
        "backbone.image_to_mm_projection.weight": "fused/embeddings",
        "backbone.image_projection.weight": "heads/all",
        "heads.mlm.cls.dense.weight": "heads/all",
        "losses.contrastive.logit_scale": "heads/all",
    }
    assert {name: groups[name] for name in expected} == expected
    layers = {g for n, g in groups.items() if n.startswith("backbone.text_encoder.encoder.layer")}
    assert layers == {"text/layer 1", "text/layer 2"}
    monkeypatch.setattr(gradient_groups, "EACH", 1)
    parts = {g for n, g in groups_of(learner).items() if "text_encoder.encoder.layer" in n}
    assert parts == {"text/layers 1-1", "text/layers 2-2"}


def test_while_measured_nothing_is_dropped_and_no_statistics_move() -> None:
    norm = nn.BatchNorm1d(3)
    module = nn.Sequential(nn.Dropout(0.9), norm, nn.Linear(3, 2))
    rows = torch.arange(12.0).reshape(4, 3)
    before = norm.running_mean.clone()
    with undisturbed(module):
        assert torch.equal(module[0](rows), rows)
        module(rows)
        assert module[2].training
    assert torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 0
    assert all(part.training for part in module.modules())


@pytest.mark.parametrize("layers", [7, 12, 24])
def test_thirds_cover_every_layer_once(layers: int) -> None:
    parts = [gradient_groups._part(n, layers, after=True) for n in range(1, layers + 1)]
    assert len(dict.fromkeys(parts)) == 3
    for part in dict.fromkeys(parts):
        first, last = map(int, part.removeprefix("layers ").split("-"))
        assert [n for n, found in enumerate(parts, start=1) if found == part] == list(
            range(first, last + 1)
        )
