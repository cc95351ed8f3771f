"""Memory of a plan against the tensors that autograd really keeps, and against its own bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flava_plugin.plan.activations import kept_by_step, numbers_of
from flava_plugin.plan.blueprint import draw, parameters
from flava_plugin.plan.codebook import LiveBytes
from flava_plugin.plan.communication import Traffic, traffic
from flava_plugin.plan.memory import STRATEGIES, largest_unit, peak_of, state_of
from flava_plugin.plan.options import Options
from flava_plugin.plan.predict import StepPlan, plan, waiting_seconds
from flava_plugin.plan.workload import workload
from flava_plugin.recipe import load_recipe
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch
from tests.synthetic_steps import real_learner, synthetic_batch, synthetic_step

CHANGES = (
    "data.global_batch=10",
    "data.matching.negatives=0.4",
    "model.image_encoder.layers=3",
    "model.text_encoder.width=64",
)


def kept_bytes(learner: nn.Module, batch: Batch, precision: str) -> int:
    """Bytes of the storages that a forward keeps, besides weights and the batch as it comes."""
    own = [*learner.parameters(), *learner.buffers()]
    given = [v for v in vars(batch).values() if isinstance(v, Tensor)]
    known = {t.untyped_storage().data_ptr() for t in (*own, *given)}
    found: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage  # held, so that no address is given out twice
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        learner(batch.as_floats())
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "changes", [(), ("model.image_encoder.heads=8", "model.fused_encoder.layers=2")], ids=str
)
def test_activations_are_what_autograd_keeps(precision: Any, changes: tuple[str, ...]) -> None:
    recipe = load_recipe("pretrain/shapes", [*CHANGES, *changes], check_files=False)
    options = Options(device="cpu", pair_tokens=13, text_tokens=17)
    blueprint = draw(recipe, options)
    learner = real_learner(recipe, blueprint.words)
    for work in workload(recipe, blueprint, options):
        kept = kept_by_step(blueprint, work, numbers_of(precision, "cpu"), 0)
        # the step compares embeddings outside the learner
        expected = sum(part.bytes for part in kept if part.part != "contrastive")
        batch = synthetic_batch(recipe, work, blueprint.words, blueprint.patches, 0)
        measured = kept_bytes(learner, batch, precision)
        assert expected == pytest.approx(measured, rel=0.03), (work.kind, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_clip_s_activations_are_what_autograd_keeps(precision: Any) -> None:
    recipe = load_recipe("pretrain/clip_shapes", ["data.global_batch=10"], check_files=False)
    options = Options(device="cpu", pair_tokens=13)
    blueprint = draw(recipe, options)
    (work,) = workload(recipe, blueprint, options)
    kept = kept_by_step(blueprint, work, numbers_of(precision, "cpu"), 0)
    expected = sum(part.bytes for part in kept if part.part != "contrastive")
    batch = synthetic_batch(recipe, work, blueprint.words, blueprint.patches, 0)
    measured = kept_bytes(real_learner(recipe, blueprint.words), batch, precision)
    assert expected == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("data.per_gpu_batch=20",),
        ("sharding.activation_checkpointing=true",),
        ("objectives.mim.loss.chunk=20",),
        ("precision=bf16",),
        ("data.global_batch=16", "model.text_encoder.width=256", "model.text_encoder.layers=2"),
    ],
    ids=str,
)
def test_a_step_never_holds_more_nor_much_less(changes: tuple[str, ...]) -> None:
    """All tensors alive at once in a real step, the state left out."""
    recipe = load_recipe("pretrain/shapes", ["data.global_batch=40", *changes], check_files=False)
    options = Options(device="cpu")
    blueprint = draw(recipe, options)
    every = int(recipe.sharding.activation_checkpointing)
    numbers = numbers_of(recipe.precision, "cpu")
    weights = {name: objective.weight for name, objective in recipe.objectives.items()}
    alone = World(0, 1, 0, torch.device("cpu"))
    for work in workload(recipe, blueprint, options):
        learner = real_learner(recipe, blueprint.words)
        strategy = make_strategy(recipe.sharding, learner, recipe.optim, alone)
        batches = synthetic_step(recipe, work, blueprint.words, blueprint.patches)
        with LiveBytes() as live:
            train_step(
                strategy, learner, batches, weights, alone, (0, 0), precision=recipe.precision
            )
        kept = kept_by_step(blueprint, work, numbers, every)
        state = state_of(blueprint, "none", 1)
        peak = peak_of(blueprint, work, kept, state, recipe.data.image, on_host=True)
        expected = peak.above - peak.batch * work.micro_batches
        assert expected == pytest.approx(live.peak, rel=0.15), work.kind


def test_strategies_keep_what_their_papers_say() -> None:
    recipe = load_recipe("pretrain/shapes", check_files=False)
    blueprint = draw(recipe, Options())
    numbers = sum(parameters(blueprint).values())
    frozen = 4 * blueprint.codebook.parameters if blueprint.codebook else 0
    steady = {name: state_of(blueprint, name, 8).steady - frozen for name in STRATEGIES}
    assert steady["none"] == 12 * numbers
    assert steady["ddp"] == 16 * numbers
    assert steady["ddp_oss"] == (8 + 8 / 8) * numbers
    assert steady["fairscale_sdp"] == (4 + 8 / 8) * numbers
    assert steady["fairscale_fsdp"] == steady["fsdp2"] == 12 * numbers / 8
    assert state_of(blueprint, "ddp", 1).buckets == 0
    layers = [
        sum(p.numel() for p in layer.parameters())
        for name in ("image_encoder", "text_encoder", "mm_encoder")
        for layer in getattr(blueprint.learner.backbone, name).encoder.layer
    ]
    assert largest_unit(blueprint) >= max(layers)


def test_strategies_send_what_rings_send() -> None:
    recipe = load_recipe("pretrain/shapes", check_files=False)
    options = Options(gpus=4)
    blueprint = draw(recipe, options)
    whole = 4 * sum(parameters(blueprint).values()) * 3 / 4
    pair = workload(recipe, blueprint, options)[-1]
    sent = {name: traffic(blueprint, pair, name, 4) for name in STRATEGIES}
    assert sent["ddp"].all_reduce == 2 * whole
    assert sent["ddp_oss"].broadcast == sent["fairscale_sdp"].reduce_scatter == whole
    assert sent["fsdp2"].all_gather == 2 * whole
    assert sent["ddp"].contrastive == 3 * 2 * 4 * 64 * 96 * 3 / 4
    assert traffic(blueprint, pair, "ddp", 1).total == 0


def test_only_what_a_step_reaches_is_updated_and_only_by_its_owner() -> None:
    def milliseconds(strategy: str, gpus: int = 4) -> dict[str, float]:
        recipe = load_recipe("pretrain/shapes", check_files=False)
        section = recipe.sharding.model_copy(update={"strategy": strategy})
        found = plan(recipe.model_copy(update={"sharding": section}), Options(gpus=gpus))
        return {step.work.kind: 1000 * step.seconds["optimiser"] for step in found.steps}

    recipe = load_recipe("pretrain/shapes", check_files=False)
    counts = parameters(draw(recipe, Options()))
    everywhere, split = milliseconds("ddp"), milliseconds("fsdp2")
    reached = counts["text encoder"] + counts["head mlm"]
    assert everywhere["text"] == pytest.approx(28e3 * reached / 3.35e12)
    assert everywhere["pair"] > everywhere["image"]
    for kind, value in everywhere.items():
        assert split[kind] == pytest.approx(value / 4)


@pytest.mark.parametrize(
    ("sent", "micro_batches", "waits"),
    [
        (Traffic(6.0, 0.0, 0.0, 0.0, 0.0), 1, 0.0),
        (Traffic(6.0, 0.0, 0.0, 0.0, 0.0), 2, 2.0),  # 4 s of the last backward hide 4 bytes
        (Traffic(0.0, 6.0, 0.0, 0.0, 0.0), 2, 2.0),
        (Traffic(0.0, 0.0, 6.0, 0.0, 0.0), 2, 0.0),  # parameters come all the time
        (Traffic(0.0, 4.0, 6.0, 0.0, 0.0), 2, 2.0),
        (Traffic(0.0, 0.0, 0.0, 1.0, 2.0), 2, 3.0),
    ],
    ids=str,
)
def test_gradients_hide_behind_the_last_micro_batch(
    sent: Traffic, micro_batches: int, waits: float
) -> None:
    assert waiting_seconds(sent, 8.0, micro_batches, 1.0) == waits


def test_a_second_micro_batch_halves_what_hides_gradients() -> None:
    def pair(rows: int, network: float) -> StepPlan:
        changes = [f"data.per_gpu_batch={rows}", "objectives.contrastive=null"]
        recipe = load_recipe("pretrain/flava_base", changes, check_files=False)
        return plan(recipe, Options(gpus=2, gpus_per_node=1, network=network)).steps[-1]

    free = pair(4096, 1e6)
    flops = [*free.flops.values()]
    share = sum(f.backward for f in flops) / sum(f.executed for f in flops)
    backward = share * free.seconds["computing"]
    slow = free.traffic.all_reduce / (0.75 * backward) / 1e9
    waited = [pair(rows, slow).seconds["waiting for other ranks"] for rows in (4096, 2048)]
    assert waited == pytest.approx([0.0, 0.25 * backward], rel=0.01)
