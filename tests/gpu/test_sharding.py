"""Every sharding strategy on a real GPU, at world size 1; ``make gpu`` runs these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_flava import image_batch, pair_batch, text_batch, tiny_learner

from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.loss_scale import LossScale
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.sharding.whole import (
    full_state,
    load_full_state,
    load_optimizer_state,
    optimizer_state,
)
from flava_plugin.train.step import Precision, train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

STRATEGIES = ("ddp_oss", "fairscale_sdp", "fairscale_fsdp", "fsdp2")
STEPS: list[list[Batch]] = [
    [pair_batch(rows=6, negatives=2, padded=True)],
    [image_batch()],
    [pair_batch(seed=seed, negatives=1, padded=True) for seed in (0, 1)],
    [text_batch(padded=True)],
]
OPTIM = OptimSection(lr=0.01, eps=0.01)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """No TF32, which would keep ten bits of an fp32 product."""
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, value in zip(switches, before, strict=True):  # monkeypatch would delete what is no
        switch.allow_tf32 = value  # ordinary attribute


def prepare(strategy: str, *, recompute: bool = False) -> tuple[Strategy, torch.nn.Module]:
    learner = tiny_learner()
    section = ShardingSection(strategy=strategy)
    if recompute:
        from flava_plugin.model.execution import set_execution

        set_execution(learner, activation_checkpointing=True)
    return make_strategy(section, learner, OPTIM, World(0, 1, 0, torch.device("cuda", 0))), learner


def losses(
    strategy: Strategy, learner: torch.nn.Module, steps: int, precision: Precision = "fp32"
) -> torch.Tensor:
    scale = LossScale(enabled=precision == "fp16")
    scale.value = min(scale.value, 1024.0)  # at the first scale the first step would be left out
    weights = dict.fromkeys(learner.modalities, 1.0)
    found = []
    for number in range(steps):
        made = train_step(
            strategy,
            learner,
            [b if b.image is None else learner.with_codes(b) for b in STEPS[number % len(STEPS)]],
            weights,
            strategy.world,
            (0, number),
            precision=precision,
            loss_scale=scale.value,
        )
        assert scale.allows(strategy.clip_grad_norm(1.0, loss_scale=scale.value))
        strategy.step()
        found += [loss.cpu() for loss in made.values()]
    return torch.stack(found)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_computes_what_one_process_does(name: str, recompute: bool) -> None:
    expected = losses(*prepare("none"), steps=8)
    torch.testing.assert_close(
        losses(*prepare(name, recompute=recompute), steps=8), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["none", *STRATEGIES])
def test_half_precision_stays_near_fp32(name: str, precision: Precision) -> None:
    exact = losses(*prepare("none"), steps=4)
    found = losses(*prepare(name), steps=4, precision=precision)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", STRATEGIES)
def test_state_goes_to_another_strategy_and_back(name: str) -> None:
    strategy, learner = prepare(name)
    losses(strategy, learner, steps=4)
    weights, moments = full_state(strategy), optimizer_state(strategy)
    alone, other = prepare("none")
    load_full_state(alone, weights)
    load_optimizer_state(alone, moments)
    again, third = prepare(name)
    load_full_state(again, full_state(alone))
    load_optimizer_state(again, optimizer_state(alone))
    torch.testing.assert_close(
        losses(again, third, steps=4), losses(alone, other, steps=4), rtol=1e-4, atol=1e-4
    )
