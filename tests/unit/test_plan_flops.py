"""FLOPs and parameters of a plan against what torch counts in a real step."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flava_plugin.plan.blueprint import Blueprint, draw, parameters
from flava_plugin.plan.flops import step_flops, total
from flava_plugin.plan.options import Options
from flava_plugin.plan.workload import Work, workload
from flava_plugin.recipe import Recipe, load_recipe
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from tests.synthetic_steps import real_learner, synthetic_step

ALONE = World(0, 1, 0, torch.device("cpu"))
SMALL = (
    "data.global_batch=10",
    "data.matching.negatives=0.4",
    "model.image_encoder.layers=3",
    "model.text_encoder.width=64",
)


def planned(*changes: str) -> tuple[Recipe, Blueprint, list[Work]]:
    recipe = load_recipe("pretrain/shapes", [*SMALL, *changes], check_files=False)
    options = Options(device="cpu", pair_tokens=13, text_tokens=17)
    blueprint = draw(recipe, options)
    return recipe, blueprint, workload(recipe, blueprint, options)


def counted(recipe: Recipe, blueprint: Blueprint, work: Work) -> int:
    learner = real_learner(recipe, blueprint.words)
    strategy = make_strategy(recipe.sharding, learner, recipe.optim, ALONE)
    batches = synthetic_step(recipe, work, blueprint.words, blueprint.patches)
    weights = {name: objective.weight for name, objective in recipe.objectives.items()}
    # the counter does not know the CPU's fused attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        train_step(strategy, learner, batches, weights, ALONE, (0, 0))
    return int(counter.get_total_flops())


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("data.per_gpu_batch=5",),
        ("sharding.activation_checkpointing=true",),
        ("sharding.activation_checkpointing=2",),
        ("objectives.mim.loss.chunk=7", "objectives.mmm_text.loss.chunk=3"),
        ("objectives.contrastive=null",),
        ("objectives.mmm_image=null", "objectives.mmm_text=null"),
    ],
    ids=str,
)
def test_flops_are_those_of_a_real_step(changes: tuple[str, ...]) -> None:
    recipe, blueprint, works = planned(*changes)
    every = int(recipe.sharding.activation_checkpointing)
    for work in works:
        expected = total([*step_flops(blueprint, work, every).values()]).executed
        # In pairs torch's own attention pads the last layer's queries to the fullest row's.
        near = 0.025 if work.kind == "pair" else 1e-6
        assert expected == pytest.approx(counted(recipe, blueprint, work), rel=near), work.kind


def test_flops_of_a_dual_encoder_are_those_of_a_real_step() -> None:
    recipe = load_recipe("pretrain/clip_shapes", ["data.global_batch=10"], check_files=False)
    options = Options(device="cpu", pair_tokens=13)
    blueprint = draw(recipe, options)
    (work,) = workload(recipe, blueprint, options)
    expected = total([*step_flops(blueprint, work, 0).values()]).executed
    assert expected == pytest.approx(counted(recipe, blueprint, work), rel=1e-6)


@pytest.mark.parametrize("name", ["pretrain/shapes", "pretrain/folder"])
def test_parameters_are_exact(name: str) -> None:
    recipe = load_recipe(name, check_files=False)
    if name == "pretrain/folder":
        recipe = load_recipe(
            name,
            [
                "data.tokenizer.vocab=null",
                "objectives.mim=null",
                "objectives.mmm_image=null",
                "data.sources.images=null",
                "model.codebook=null",
            ],
            check_files=False,
        )
    blueprint = draw(recipe, Options())
    parts = parameters(blueprint)
    learner = real_learner(recipe, blueprint.words)
    assert sum(parts.values()) == sum(p.numel() for p in learner.parameters())
    assert parts["image encoder"] == sum(
        p.numel() for p in learner.backbone.image_encoder.parameters()
    )
    assert {n: p.shape for n, p in learner.named_parameters()} == {
        n: p.shape for n, p in blueprint.learner.named_parameters()
    }


def test_a_last_layer_that_is_read_in_part_costs_less() -> None:
    recipe, blueprint, works = planned()
    whole = workload(
        recipe, blueprint, Options(pair_tokens=13, text_tokens=17), whole_last_layer=True
    )
    for work, full in zip(works, whole, strict=True):
        less, more = (total([*step_flops(blueprint, w, 0).values()]).useful for w in (work, full))
        assert less < 0.97 * more, work.kind
