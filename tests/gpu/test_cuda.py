"""A GPU computes what a CPU does; ``make gpu`` runs these, and without a GPU they are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_flava import image_batch, pair_batch, text_batch, tiny_learner
from torch import Tensor

from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.sharding.whole import (
    full_state,
    load_full_state,
    load_optimizer_state,
    optimizer_state,
)
from flava_plugin.train.step import Precision, check_finite, train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

BATCHES = {
    "image": [image_batch()],
    "text": [text_batch(padded=True)],
    "pair": [pair_batch(rows=6, negatives=2, padded=True)],
    "pair, cached": [pair_batch(seed=seed, negatives=1, padded=True) for seed in (0, 1)],
    "pair, no positives": [pair_batch(negatives=4, positives="none")],
}


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


def step(
    device: str, batches: list[Batch], precision: Precision = "fp32"
) -> tuple[dict[str, Tensor], dict[str, Tensor], Strategy]:
    """Losses and gradients of a step, on the CPU, and what computed them."""
    world = World(0, 1, 0, torch.device(device))
    learner = tiny_learner()
    # Made on the CPU: these codes are cut off at whole numbers, and rounding would change some.
    batches = [learner.with_codes(b) if b.image is not None else b for b in batches]
    strategy = make_strategy(ShardingSection(), learner, OptimSection(), world)
    weights = dict.fromkeys(learner.modalities, 1.0)
    losses = train_step(strategy, learner, batches, weights, world, (0, 0), precision=precision)
    check_finite(losses, 1)
    gradients = {n: p.grad.cpu() for n, p in learner.named_parameters() if p.grad is not None}
    return {name: loss.cpu() for name, loss in losses.items()}, gradients, strategy


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES.keys())
def test_losses_and_gradients_equal_the_cpus(batches: list[Batch]) -> None:
    (expected, own, _), (found, gradients, _) = step("cpu", batches), step("cuda", batches)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == own.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, own[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES.keys())
def test_bf16_stays_near_fp32(batches: list[Batch]) -> None:
    (exact, _, _), (rough, gradients, _) = step("cpu", batches), step("cuda", batches, "bf16")
    for name, loss in rough.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact[name], rtol=0.03, atol=0.03)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_an_update_and_its_state_come_back_to_the_cpu() -> None:
    *_, strategy = step("cuda", BATCHES["pair"])
    before = full_state(strategy)
    assert strategy.clip_grad_norm(1.0).isfinite()
    strategy.step()
    after = full_state(strategy)
    assert all(tensor.device.type == "cpu" for tensor in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in after)
    other = make_strategy(
        ShardingSection(), tiny_learner(), OptimSection(), World(0, 1, 0, torch.device("cpu"))
    )
    load_full_state(other, after)
    load_optimizer_state(other, optimizer_state(strategy))
    torch.testing.assert_close(full_state(other), after, rtol=0, atol=0)
