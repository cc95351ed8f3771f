"""Steps of learners that make sharding difficult, under any strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial

import cases
import shared_batches
import torch
from foreign_learner import Foreign
from strategy_cases import on_this_machine
from torch import Tensor, nn

from flava_plugin.components.losses import MaskedCrossEntropy, cross_entropy
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.schema import Component
from flava_plugin.sections import ModelSection, ShardingSection
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.sharding.whole import full_state, optimizer_state
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch, MaskedPrediction, Modality, predicted_positions

Tensors = dict[str, Tensor]
STRATEGIES = ("ddp_oss", "fairscale_sdp", "fairscale_fsdp")
MIXED: tuple[Modality, ...] = ("pair", "image", "text", "pair")

NEXT_TO_NONE = 1e-12
"""Dropout that drops nothing, and has clean and masked rows take two passes as any dropout does."""


def strategy_of(name: str, learner: nn.Module, world: World) -> Strategy:
    section = ShardingSection(strategy=name if world.size > 1 else "none")  # type: ignore[arg-type]
    return make_strategy(section, learner, cases.OPTIM, world)


def steps(
    strategy: Strategy,
    learner: nn.Module,
    wholes: Iterable[Batch],
    accumulation: int,
    weights: dict[str, float],
) -> Tensors:
    """Losses of each step, and what it leads to."""
    found: Tensors = {}
    world = strategy.world
    for number, whole in enumerate(wholes):
        parts = shared_batches.share(whole, world.rank, world.size, accumulation)
        losses = train_step(strategy, learner, parts, weights, world, (0, number))  # type: ignore[arg-type]
        found |= {f"{number}/loss/{name}": loss for name, loss in losses.items()}
        found[f"{number}/norm"] = strategy.clip_grad_norm(1.0)
        strategy.step()
        found |= {f"{number}/model/{n}": t for n, t in full_state(strategy).items()}
        for name, kinds in optimizer_state(strategy).items():
            found |= {f"{number}/optim/{name}.{kind}": t for kind, t in kinds.items()}
    return found


def deep_learner(seed: int, *, recompute: bool, dropout: float) -> Learner:
    """As in ``shared_batches``, with two layers in each encoder."""
    shape = {"layers": 2, "width": 8, "heads": 2, "dropout": dropout}
    size = shared_batches.SIZE
    model = ModelSection(
        image_encoder=Component(type="flava_image", image_size=size, patch_size=4, **shape),
        text_encoder=Component(type="flava_text", max_positions=shared_batches.LENGTH, **shape),
        fused_encoder=Component(type="flava_fused", **shape),
        codebook=Component(type="given_codes"),
        projection=8,
        init_std=0.3,
        position_std=0.3,
    )
    return build_learner(
        model,
        shared_batches.objectives(chunk=2 if recompute else 1024),
        words=shared_batches.WORDS,
        image_size=size,
        seed=seed,
        activation_checkpointing=recompute,
    ).train()


def deep(
    world: World,
    name: str,
    *,
    recompute: bool = False,
    dropout: float = NEXT_TO_NONE,
    accumulation: int = 2,
) -> Tensors:
    learner = deep_learner(world.rank, recompute=recompute, dropout=dropout)
    strategy = strategy_of(name, learner, world)
    flags = cases.POSITIVES["uneven"]
    wholes = [shared_batches.batch(kind, cases.ROWS, flags) for kind in MIXED]
    return steps(strategy, learner, wholes, accumulation, shared_batches.WEIGHTS)


class OfPositives(MaskedCrossEntropy):
    """Counts rows of matched pairs only, and is a constant where there are none."""

    def __call__(self, prediction: MaskedPrediction, batch: Batch) -> Tensor:
        assert batch.positives is not None
        rows = predicted_positions(batch, self.target).nonzero()[:, 0]
        kept = batch.positives[rows]
        if not kept.any():
            return torch.zeros(0)
        return cross_entropy(prediction.decode(prediction.hidden[kept]), prediction.labels[kept])

    def count(self, batch: Batch) -> Tensor:
        assert batch.positives is not None
        return predicted_positions(batch, self.target)[batch.positives].sum()


def apart(world: World, name: str, *, accumulation: int) -> Tensors:
    """An encoder with its head that the loss does not depend on wherever no pair matches."""
    whole = deep_learner(world.rank, recompute=False, dropout=0.0)
    learner = Learner(
        whole.backbone,
        {task: whole.heads[task] for task in ("mim", "mlm")},
        {"mim": OfPositives(target="patches"), "mlm": MaskedCrossEntropy(target="words")},
        {"mim": "pair", "mlm": "pair"},
        whole.codebook,
    )
    strategy = strategy_of(name, learner, world)
    wholes = [shared_batches.batch("pair", cases.ROWS, f) for f in cases.POSITIVES.values()]
    return steps(strategy, learner, wholes, accumulation, {"mim": 1.0, "mlm": 1.0})


def idle(world: World, name: str, *, accumulation: int) -> Tensors:
    """Single parameters that the loss does not depend on wherever no pair matches."""
    learner = cases.Idle()
    strategy = strategy_of(name, learner, world)
    wholes = [shared_batches.batch("pair", cases.ROWS, f) for f in cases.POSITIVES.values()]
    return steps(strategy, learner, wholes, accumulation, {"always": 1.0, "sometimes": 1.0})


def foreign(world: World, name: str, *, everywhere: bool = True) -> Tensors:
    learner = Foreign(world.rank, everywhere=everywhere)
    strategy = strategy_of(name, learner, world)
    wholes = [shared_batches.batch("image", cases.ROWS)] * 3
    return steps(strategy, learner, wholes, 2, {"loss": 1.0})


COURSES: dict[str, Callable[[World, str], Tensors]] = {
    "deep": deep,
    "deep, recomputed": partial(deep, recompute=True),
    "deep, joined passes": partial(deep, dropout=0.0, accumulation=1),
    "apart": partial(apart, accumulation=1),
    "apart, accumulated": partial(apart, accumulation=2),
    "idle": partial(idle, accumulation=1),
    "idle, accumulated": partial(idle, accumulation=2),
    "foreign": foreign,
    "foreign, apart": partial(foreign, everywhere=False),
}


def courses(world: World) -> Tensors:
    """Every course under every strategy; in one process the reference."""
    found: Tensors = {}
    for name in STRATEGIES if world.size > 1 else ("none",):
        with on_this_machine(name) if world.size > 1 else nullcontext():
            for title, course in COURSES.items():
                found |= {f"{name}/{title}/{n}": t for n, t in course(world, name).items()}
    return found
