from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin.components.losses import GlobalContrastive
from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.sharding.whole import (
    full_state,
    load_full_state,
    load_optimizer_state,
    optimizer_state,
)
from flava_plugin.train.step import check_finite, train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch

ALONE = World(0, 1, 0, torch.device("cpu"))
WEIGHTS = {"itm": 0.5, "gcl": 3.0}


class TwoTowers(nn.Module):
    """The learner's interface with nothing behind it but a layer on each side."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(12, 4), nn.Linear(3, 4)
        self.match, self.unused = nn.Linear(4, 2), nn.Linear(2, 2)
        self.dropout = nn.Dropout(dropout)
        self.loss = GlobalContrastive(init_scale=1.0)
        self.dtypes: list[torch.dtype] = []

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.image is not None and batch.text is not None
        image = self.image(self.dropout(batch.image.flatten(1)))
        self.dtypes.append(image.dtype)
        return image.float(), self.text(batch.text.float() / 9).float()

    def forward(self, batch: Batch, *, embeddings_only: bool = False) -> dict[str, Tensor]:
        image, text = self.embed(batch)
        outputs = {
            "gcl.image": F.normalize(image, dim=-1),
            "gcl.text": F.normalize(text, dim=-1),
            "gcl.log_scale": self.loss.logit_scale.clone(),
        }
        if not embeddings_only:
            outputs["itm"] = self.itm(image + text, batch).sum()
        return outputs

    def itm(self, fused: Tensor, batch: Batch) -> Tensor:
        assert batch.matched is not None
        return F.cross_entropy(self.match(fused).float(), batch.matched.long(), reduction="none")

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"itm": torch.tensor(len(batch)), "gcl": self.loss.count(batch)}

    def is_global(self, objective: str) -> bool:
        return objective == "gcl"

    def loss_of(self, objective: str) -> nn.Module:
        return self.loss

    def reference(self, batch: Batch) -> dict[str, Tensor]:
        """The mean losses as plain autograd sees the whole batch."""
        image, text = self.embed(batch)
        return {
            "itm": self.itm(image + text, batch).mean(),
            "gcl": self.loss((image, text), batch).mean(),
        }


def whole(rows: int = 12) -> Batch:
    draw = torch.Generator().manual_seed(3)
    positives = torch.arange(rows) % 3 != 1
    return Batch(
        "pair",
        image=torch.randn(rows, 3, 2, 2, generator=draw),
        text=torch.randint(0, 9, (rows, 3), generator=draw),
        matched=positives,
        positives=positives,
    )


def pieces(batch: Batch, *lengths: int) -> list[Batch]:
    tensors = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    split = {n: t.split(lengths) for n, t in tensors.items() if isinstance(t, Tensor)}
    return [
        dataclasses.replace(batch, **{n: parts[i] for n, parts in split.items()})
        for i in range(len(lengths))
    ]


def prepared(dropout: float = 0.0) -> tuple[Any, Strategy]:
    learner = TwoTowers(dropout)
    return learner, make_strategy(ShardingSection(), learner, OptimSection(), ALONE)


def grads(learner: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lengths", [(12,), (6, 6), (1, 7, 4)], ids=str)
def test_gradients_are_those_of_one_large_batch(lengths: tuple[int, ...]) -> None:
    learner, strategy = prepared()
    expected = learner.reference(whole())
    sum(WEIGHTS[name] * loss for name, loss in expected.items()).backward()
    gradients = grads(learner)
    losses = train_step(strategy, learner, pieces(whole(), *lengths), WEIGHTS, ALONE, (0, 0))
    torch.testing.assert_close(losses, {n: loss.detach() for n, loss in expected.items()})
    torch.testing.assert_close(grads(learner), gradients, rtol=1e-5, atol=1e-7)
    assert "unused.weight" not in gradients
    assert not any(loss.requires_grad for loss in losses.values())


def test_earlier_gradients_are_dropped() -> None:
    learner, strategy = prepared()
    learner.unused.weight.grad = torch.ones(2, 2)
    train_step(strategy, learner, [whole()], WEIGHTS, ALONE, (0, 0))
    first = grads(learner)
    train_step(strategy, learner, [whole()], WEIGHTS, ALONE, (0, 0))
    torch.testing.assert_close(grads(learner), first, rtol=0, atol=0)
    assert learner.unused.weight.grad is None


def test_no_positives_gives_zero_and_no_nan() -> None:
    learner, strategy = prepared()
    none = dataclasses.replace(whole(), positives=torch.zeros(12, dtype=torch.bool))
    losses = train_step(strategy, learner, pieces(none, 6, 6), WEIGHTS, ALONE, (0, 0))
    assert losses["gcl"] == 0 and losses["itm"] > 0
    assert all(gradient.isfinite().all() for gradient in grads(learner).values())
    assert learner.loss.logit_scale.grad == 0


def test_without_the_flags_every_pair_counts() -> None:
    learner, strategy = prepared()
    every = dataclasses.replace(whole(), positives=None)
    losses = train_step(strategy, learner, pieces(every, 6, 6), WEIGHTS, ALONE, (0, 0))
    torch.testing.assert_close(losses["gcl"], learner.reference(every)["gcl"].detach())


def test_a_weight_of_zero_reports_and_does_not_teach() -> None:
    learner, strategy = prepared()
    losses = train_step(strategy, learner, [whole()], {"itm": 1.0, "gcl": 0.0}, ALONE, (0, 0))
    assert losses["gcl"] > 0
    assert learner.loss.logit_scale.grad == 0


def test_dropout_is_a_function_of_seed_and_step() -> None:
    learner, strategy = prepared(dropout=0.5)
    parts = pieces(whole(), 6, 6)

    def losses(seed: tuple[int, int]) -> Tensor:
        found = train_step(strategy, learner, parts, WEIGHTS, ALONE, seed)
        return torch.stack([*found.values(), learner.image.weight.grad.sum()])

    first = losses((1, 5))
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    assert torch.equal(losses((1, 5)), first)
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator is left alone"
    assert not torch.equal(losses((1, 6)), first)
    assert not torch.equal(losses((2, 5)), first)


def test_both_passes_drop_the_same() -> None:
    """Else the gradients would belong to embeddings that never were."""
    learner, strategy = prepared(dropout=0.5)
    seen: list[Tensor] = []
    learner.register_forward_hook(lambda _, __, outputs: seen.append(outputs["gcl.image"].detach()))
    train_step(strategy, learner, pieces(whole(), 6, 6), WEIGHTS, ALONE, (0, 0))
    first, second, first_again, second_again = seen
    assert torch.equal(first, first_again) and torch.equal(second, second_again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("lengths", [(12,), (6, 6)], ids=str)
def test_bf16_reaches_the_forward_and_not_the_losses(lengths: tuple[int, ...]) -> None:
    learner, strategy = prepared()
    parts = pieces(whole(), *lengths)
    exact = train_step(strategy, learner, parts, WEIGHTS, ALONE, (0, 0))
    learner.dtypes.clear()
    losses = train_step(strategy, learner, parts, WEIGHTS, ALONE, (0, 0), precision="bf16")
    assert set(learner.dtypes) == {torch.bfloat16}
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss == pytest.approx(exact[name].item(), rel=0.05)
        assert loss != exact[name]


def test_a_broken_loss_is_named() -> None:
    losses = {"itm": torch.tensor(0.7), "gcl": torch.tensor(float("nan"))}
    with pytest.raises(FloatingPointError, match="step 41: gcl is nan; the weights are those"):
        check_finite(losses, 41)
    check_finite({"itm": torch.tensor(0.7)}, 41)


def test_none_is_refused_on_several_ranks() -> None:
    world = World(0, 2, 0, torch.device("cpu"))
    with pytest.raises(ValueError, match="sharding.strategy=ddp"):
        make_strategy(ShardingSection(strategy="none"), TwoTowers(), OptimSection(), world)


def trained() -> tuple[Any, Strategy]:
    learner, strategy = prepared()
    train_step(strategy, learner, [whole()], WEIGHTS, ALONE, (0, 0))
    strategy.step()
    return learner, strategy


def test_state_goes_from_one_strategy_to_another() -> None:
    learner, strategy = trained()
    state, optim = full_state(strategy), optimizer_state(strategy)
    assert state.keys() == learner.state_dict().keys()
    assert "unused.weight" not in optim
    assert optim["loss.logit_scale"].keys() == {"step", "exp_avg", "exp_avg_sq"}
    other, second = prepared()
    load_full_state(second, state)
    load_optimizer_state(second, optim)
    for prepared_learner, one in ((learner, strategy), (other, second)):
        train_step(one, prepared_learner, [whole()], WEIGHTS, ALONE, (0, 1))
        one.step()
    torch.testing.assert_close(full_state(second), full_state(strategy), rtol=0, atol=0)
    torch.testing.assert_close(optimizer_state(second), optimizer_state(strategy), rtol=0, atol=0)
    assert not torch.equal(state["image.weight"], learner.image.weight), "a copy, not a view"
    assert optim["image.weight"]["step"] == 1, "what was loaded is not written to"


def test_every_fault_of_saved_weights_is_named() -> None:
    _, strategy = prepared()
    state = full_state(strategy)
    state["image.bias"] = torch.ones(5)
    state["extra"] = state.pop("text.bias")
    with pytest.raises(ValueError) as refused:
        load_full_state(strategy, state)
    for fault in ("text.bias is missing", "extra is unknown", r"image.bias is (5,), here (4,)"):
        assert fault in str(refused.value)


def test_every_fault_of_saved_optimiser_state_is_named() -> None:
    _, strategy = trained()
    state = optimizer_state(strategy)
    state["image.bias"]["exp_avg"] = torch.ones(5)
    state["extra"] = state.pop("text.bias")
    del state["image.weight"]["step"]
    with pytest.raises(ValueError) as refused:
        load_optimizer_state(strategy, state)
    for fault in (
        "extra is no trainable parameter",
        "image.bias.exp_avg is (5,), here (4,)",
        "image.weight has ['exp_avg', 'exp_avg_sq'], not",
    ):
        assert fault in str(refused.value)


def test_clipping_returns_the_norm_before_it() -> None:
    learner, strategy = prepared()
    train_step(strategy, learner, [whole()], WEIGHTS, ALONE, (0, 0))
    norm = strategy.clip_grad_norm(None)
    assert norm > 0.01
    assert strategy.clip_grad_norm(norm.item() / 2) == norm
    torch.testing.assert_close(strategy.clip_grad_norm(None), norm / 2, rtol=1e-4, atol=0)
