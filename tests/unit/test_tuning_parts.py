"""Layer decay, freezing, the average of the weights and patience, each by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from flava_plugin.model.freezing import freeze
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.sections import EvaluateSection, OptimSection
from flava_plugin.train.best import Best
from flava_plugin.train.ema import Ema
from flava_plugin.train.layer_rates import layer_rates
from flava_plugin.train.optim import adamw, set_lr


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Layer() for _ in range(3)])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 2))
        self.embeddings = nn.Embedding(4, 2)
        self.encoder = Stack()
        self.layernorm = nn.LayerNorm(2)


class Learner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.image_encoder = Encoder()
        self.backbone.mm_encoder = Encoder()
        self.backbone.image_projection = nn.Linear(2, 2)
        self.heads = nn.ModuleDict({"it": nn.Linear(2, 2)})


def test_layer_decay_is_this_table() -> None:
    rates = layer_rates(Learner(), 0.5)
    image = "backbone.image_encoder."
    assert {name: rate for name, rate in rates.items() if name.startswith(image)} == {
        f"{image}cls_token": 0.0625,
        f"{image}embeddings.weight": 0.0625,
        f"{image}encoder.layer.0.linear.weight": 0.125,
        f"{image}encoder.layer.0.linear.bias": 0.125,
        f"{image}encoder.layer.1.linear.weight": 0.25,
        f"{image}encoder.layer.1.linear.bias": 0.25,
        f"{image}encoder.layer.2.linear.weight": 0.5,
        f"{image}encoder.layer.2.linear.bias": 0.5,
    }
    assert rates.keys() == {
        name.replace("image_encoder", part)
        for name in rates
        for part in ("image_encoder", "mm_encoder")
    }
    assert layer_rates(Learner(), 1.0) == {}


def test_one_schedule_moves_every_group_by_its_factor() -> None:
    learner = Learner()
    rates = layer_rates(learner, 0.5)
    listed = [(name, p.dim(), p) for name, p in learner.named_parameters()]
    optimizer = adamw(listed, OptimSection(weight_decay=0.0, eps=1e-30), rates=rates)
    set_lr(optimizer, 0.01)
    before = {name: p.detach().clone() for name, p in learner.named_parameters()}
    for parameter in learner.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # AdamW's first step is the learning rate itself
    for name, parameter in learner.named_parameters():
        moved = (before[name] - parameter.detach()).mean().item()
        assert moved == pytest.approx(0.01 * rates.get(name, 1.0), rel=1e-3), name


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("image_encoder", 10),
        ("backbone.image_encoder", 10),
        ("fused_encoder", 10),
        ("mm_encoder.encoder.layer.[01]", 4),
        ("*embeddings*", 2),
        ("heads.it", 2),
        ("backbone", 22),
        ("*.bias", 10),
    ],
)
def test_a_pattern_freezes_what_it_names(pattern: str, count: int) -> None:
    learner = Learner()
    assert freeze(learner, [pattern]) == count
    assert sum(not p.requires_grad for p in learner.parameters()) == count


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'text_encoder' matches nothing; there are heads\.it, im"
    ):
        freeze(Learner(), ["image_encoder", "text_encoder"])


def test_a_frozen_encoder_records_no_graph() -> None:
    learner = Learner()
    freeze(learner, ["image_encoder"])
    encoder: Any = learner.backbone.image_encoder
    states = encoder.layernorm(encoder.embeddings(torch.tensor([1])))
    assert states.grad_fn is None
    assert learner.heads["it"](states).grad_fn is not None


def test_the_average_is_this_one() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    strategy: Any = SimpleNamespace(parameters=lambda: iter([("w", weight)]))
    ema = Ema(strategy, 0.75)
    for value in (2.0, 4.0):
        with torch.no_grad():
            weight.fill_(value)
        ema.update()
    with ema.applied():  # 0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 4
        assert weight.item() == 1.9375
    assert weight.item() == 4.0


def test_patience_counts_evaluations_that_are_no_better() -> None:
    section = EvaluateSection(metric="dev.loss", lower_is_better=True, patience=2, every=1)
    best = Best(section, {})
    for step, (value, better, enough) in enumerate(
        [(3.0, True, False), (3.0, False, False), (2.0, True, False), (2.5, False, False)], 1
    ):
        assert best.consider(step, {"dev": {"loss": value}}) is better
        assert best.enough is enough
    best = Best(section, best.state())  # as a checkpoint brings it back
    assert not best.consider(5, {"dev": {"loss": float("nan")}})
    assert best.enough
    assert best.found == {"step": 3, "value": 2.0}
    with pytest.raises(ValueError, match="task 'dev' gives no 'loss'; it gives f1"):
        best.consider(6, {"dev": {"f1": 1.0}})


def test_patience_without_a_metric_is_refused() -> None:
    with pytest.raises(RecipeError, match="evaluate.patience: there is nothing to wait for"):
        load_recipe("pretrain/shapes", ["evaluate.patience=3"])


def test_classes_are_counted_in_the_data(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "cow", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "1.png")
    changes = [
        "data.sources={images: {modality: image, share: 1, dataset: {type: image_folder, path: "
        f"'{tmp_path}'}}}}}}",
        "objectives={what: {modality: image, head: {type: classifier, reads: image}, "
        "loss: {type: class_ce, target: class}}}",
    ]
    recipe = load_recipe("pretrain/shapes", changes)
    assert recipe.objectives["what"].head.options["num_classes"] == 3
    without = load_recipe("pretrain/shapes", changes, check_files=False)
    assert without.objectives["what"].head.options["num_classes"] is None
    Image.new("RGB", (9, 9)).save(tmp_path / "stray.png")
    with pytest.raises(RecipeError, match="num_classes: is null, and the data does not say it"):
        load_recipe("pretrain/shapes", changes)
