"""Fine-tuning end to end, in this process: it pays, it stops early, it goes on to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import write_recipe

import flava_plugin
from flava_plugin import registry
from flava_plugin.evaluate.inference import Flava
from flava_plugin.recipe import load_recipe
from flava_plugin.train import checkpoint
from flava_plugin.train.loop import train


@registry.evaluators.register("colors_right")
class ColorsRight:
    """Share of pictures whose colour the objective ``color`` says."""

    def __init__(self, *, size: int = 64) -> None:
        self.data = registry.datasets.build(
            "shapes_images", objects=1, size=size, split="dev", unseen="none"
        )

    def __call__(self, flava: Flava, /) -> dict[str, float | int]:
        samples = [self.data.read(index) for index in range(len(self.data))]
        logits = flava.predict("color", flava.batch(samples, "image"))
        truth = torch.tensor([sample.extra["color"] for sample in samples])
        right = logits.argmax(1) == truth
        loss = torch.nn.functional.cross_entropy(logits, truth)
        return {"accuracy": right.float().mean().item(), "loss": loss.item()}


GRAY = {"mean": [0.25] * 3, "std": [0.25] * 3}
SPREAD = ("model.init_std=0.08", "model.position_std=0.02")  # as in pretrain/shapes


def tuned(folder: Path, *overrides: str, target: str = "color", **changes: Any) -> Path:
    """Train a classifier of pictures; where its run is."""
    head = {"type": "classifier", "reads": "image", "num_classes": 48, "hidden": 32}
    images = {"type": "shapes_images", "objects": 1, "size": 4000}
    data = {
        "global_batch": 32,
        "workers": 0,
        "tokenizer": {"type": "wordpiece"},
        "image": {"size": 48, "codebook_size": 48, "crop": None} | GRAY,
        "text": {"pair_length": 32, "text_length": 32},
        "masking": {"patch_count": 9, "min_block": 2},
        "sources": {"images": {"modality": "image", "share": 1, "dataset": images}},
    }
    loss = {"type": "class_ce", "target": target}
    objectives = {"color": {"modality": "image", "head": head, "loss": loss}}
    optim = {"lr": 3e-3, "betas": [0.9, 0.98], "warmup_steps": 2, "weight_decay": 0.01}
    recipe = write_recipe(folder, data=data, objectives=objectives, optim=optim, **changes)
    train(load_recipe(str(recipe), (*SPREAD, *overrides)))
    return folder / "run"


def figures(run_dir: Path) -> list[dict[str, Any]]:
    text = (run_dir / "evaluations.jsonl").read_text().splitlines()
    return [json.loads(line) for line in text]


EVALUATE = {"every": 12, "metric": "right.accuracy", "tasks": {"right": {"type": "colors_right"}}}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned(tmp_path_factory.mktemp("before"), steps=200)


def test_a_trained_backbone_beats_a_fresh_one(pretrained: Path, tmp_path: Path) -> None:
    right = {}
    for name, init in (("tuned", {"run": str(pretrained)}), ("scratch", None)):
        run_dir = tuned(
            tmp_path / name, "optim.lr=1e-3", steps=24, seed=1, init=init, evaluate=EVALUATE
        )
        right[name] = checkpoint.find(run_dir).state["best"]["value"]
    assert right["tuned"] > right["scratch"] + 0.3, right


def test_frozen_encoders_do_not_move(pretrained: Path, tmp_path: Path) -> None:
    run_dir = tuned(
        tmp_path, steps=3, freeze=["*_encoder", "backbone.*"], init={"run": str(pretrained)}
    )
    before, after = checkpoint.find(pretrained), checkpoint.find(run_dir)
    for name, value in before.model().items():
        moved = not torch.equal(value, after.model()[name])
        assert moved == name.startswith("heads.") or name.endswith("bias"), name
    assert all(name.startswith("heads.") for name in after.optim())


def test_the_average_goes_on_to_the_bit_and_is_what_is_loaded(tmp_path: Path) -> None:
    # half a cosine to the same rate is the same schedule whatever the number of steps
    changes = ("optim.ema=0.9", "optim.final_share=1.0", "optim.layer_decay=0.7")
    whole = tuned(tmp_path / "whole", *changes, steps=8)
    tuned(tmp_path / "halves", *changes, steps=4)
    halves = tuned(tmp_path / "halves", *changes, steps=8)
    for kind in ("model", "ema", "optim"):
        own, other = (checkpoint.find(run).source(kind) for run in (whole, halves))
        assert own.shapes == other.shapes
        for name, shape in own.shapes.items():
            parts = (each.part(name, 0, torch.Size(shape).numel()) for each in (own, other))
            assert torch.equal(*parts), (kind, name)
    found = checkpoint.find(whole)
    raw, average = found.model(), found.model("ema")
    name = "heads.color.classifier.model.0.weight"
    assert not torch.equal(raw[name], average[name])
    for weights, wanted in (("auto", average), ("ema", average), ("raw", raw)):
        flava = flava_plugin.load(whole, device="cpu", weights=weights)  # type: ignore[arg-type]
        assert torch.equal(flava.learner.state_dict()[name], wanted[name])


def test_evaluation_in_training_takes_the_average(tmp_path: Path) -> None:
    evaluate = EVALUATE | {"every": 4, "metric": "right.loss", "lower_is_better": True}
    run_dir = tuned(tmp_path, "optim.ema=0.9", steps=4, evaluate=evaluate)
    said = checkpoint.find(run_dir).state["best"]["value"]
    losses = {
        kind: ColorsRight()(flava_plugin.load(run_dir, device="cpu", weights=kind))["loss"]
        for kind in ("ema", "raw")
    }
    assert losses["ema"] == pytest.approx(said, abs=1e-6)
    assert abs(losses["raw"] - said) > 1e-3


def test_a_run_without_an_average_says_so(pretrained: Path) -> None:
    with pytest.raises(ValueError, match=r"no average of the weights: optim\.ema was not set"):
        flava_plugin.load(pretrained, weights="ema")


def test_a_run_stops_when_patience_ends_and_goes_on_with_more(tmp_path: Path) -> None:
    evaluate = EVALUATE | {"every": 2, "metric": "right.loss", "lower_is_better": True}
    still = ("optim.lr=1e-30", "optim.weight_decay=0")  # nothing gets better after the first time
    run_dir = tuned(tmp_path, *still, "evaluate.patience=2", steps=20, evaluate=evaluate)
    assert checkpoint.find(run_dir).step == 6
    assert checkpoint.find(run_dir, "best").step == 2
    assert len(figures(run_dir)) == 3
    tuned(tmp_path, *still, "evaluate.patience=2", steps=20, evaluate=evaluate)
    assert checkpoint.find(run_dir).step == 6, "it has been patient enough already"
    tuned(tmp_path, *still, "evaluate.patience=4", steps=20, evaluate=evaluate)
    assert checkpoint.find(run_dir).step == 10
    assert checkpoint.find(run_dir, "best").step == 2


def test_a_label_beyond_the_head_ends_the_run_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="and the head has the classes 0 to 2"):
        tuned(tmp_path, "objectives.color.head.num_classes=3", steps=2)
