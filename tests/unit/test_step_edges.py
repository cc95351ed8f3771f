"""The step with the whole learner at the edges: bf16, one row, nothing masked, no positives."""

from __future__ import annotations

import pytest
import torch
from tiny_flava import image_batch, mean_losses, pair_batch, text_batch, tiny_learner
from torch import Tensor, nn

from flava_plugin.model.learner import Learner
from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.sharding.whole import full_state
from flava_plugin.train.step import Precision, check_finite, train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch

ALONE = World(0, 1, 0, torch.device("cpu"))
OPTIM = OptimSection(lr=1e-3, warmup_steps=0)


def prepared() -> tuple[Learner, Strategy]:
    learner = tiny_learner()
    return learner, make_strategy(ShardingSection(), learner, OPTIM, ALONE)


def step(
    learner: Learner, strategy: Strategy, *batches: Batch, precision: Precision = "fp32"
) -> dict[str, Tensor]:
    weights = dict.fromkeys(learner.modalities, 1.0)
    losses = train_step(strategy, learner, batches, weights, ALONE, (0, 0), precision=precision)
    norm = strategy.clip_grad_norm(1.0)
    check_finite({**losses, "gradient norm": norm}, 1)
    strategy.step()
    return losses


def trained(precision: Precision) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Three steps of each kind, pairs in two micro-batches."""
    learner, strategy = prepared()
    losses = []
    for number in range(3):
        pairs = [pair_batch(seed=2 * number + half, negatives=1, padded=True) for half in (0, 1)]
        for batches in ([image_batch(seed=number)], [text_batch(seed=number, padded=True)], pairs):
            losses.append(step(learner, strategy, *batches, precision=precision))
    return losses, full_state(strategy)


def test_steps_in_bf16_stay_near_those_in_fp32() -> None:
    (exact, _), (rough, state) = trained("fp32"), trained("bf16")
    assert {name for losses in rough for name in losses} == set(tiny_learner().modalities)
    for before, after in zip(exact, rough, strict=True):
        for name, loss in after.items():
            assert loss.dtype == torch.float32
            torch.testing.assert_close(loss, before[name], rtol=0.03, atol=0.03)
    assert any(losses[name] != other[name] for losses, other in zip(exact, rough, strict=True)
               for name in losses)  # fmt: skip
    assert all(tensor.dtype == torch.float32 for tensor in state.values()), "weights stay fp32"


def test_norms_and_the_contrastive_branch_stay_fp32_in_bf16() -> None:
    learner, strategy = prepared()
    dtypes: dict[str, set[torch.dtype]] = {"norm": set(), "linear": set(), "residual": set()}

    def note(kind: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, __, output: dtypes[kind].add(output.dtype))

    def refuse(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert inputs[0].dtype == torch.float32, "this norm would be computed in bf16"

    for name, module in learner.backbone.named_modules():
        if isinstance(module, nn.LayerNorm):
            note("norm", module)
            module.register_forward_pre_hook(refuse)
        elif name.endswith("attention.query"):
            note("linear", module)
        elif name.endswith(("layer.0", "layer.1")):
            note("residual", module)
    seen: list[dict[str, Tensor]] = []
    learner.register_forward_hook(lambda _, __, outputs: seen.append(outputs))
    step(learner, strategy, pair_batch(negatives=1), precision="bf16")
    assert dtypes == {
        "norm": {torch.float32},
        "linear": {torch.bfloat16},
        "residual": {torch.float32},
    }
    assert {value.dtype for value in seen[0].values()} == {torch.float32}


@pytest.mark.parametrize(
    ("batch", "zeros"),
    [
        (image_batch(rows=1), set()),
        (text_batch(rows=1), set()),
        (pair_batch(rows=1), {"contrastive"}),
        (pair_batch(rows=1, negatives=1), {"contrastive", "mmm_text", "mmm_image"}),
        (image_batch(masked=0.0), {"mim"}),
        (text_batch(masked=0.0), {"mlm"}),
        (pair_batch(masked=0.0), {"mmm_text", "mmm_image"}),
        (
            pair_batch(negatives=4, positives="none"),
            {"contrastive", "mmm_text", "mmm_image"},
        ),
        (pair_batch(negatives=4, positives="all"), set()),
    ],
    ids=[
        "one image",
        "one text",
        "one pair",
        "one mismatched pair",
        "no hidden patch",
        "no hidden word",
        "nothing hidden in pairs",
        "no positives",
        "no positives, all counted",
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_degenerate_batch_is_defined(batch: Batch, zeros: set[str], parts: int) -> None:
    """A term without a counted row is 0 and teaches nothing; the rest is as ever."""
    learner, strategy = prepared()
    alike = [batch] * parts
    if parts == 2 and batch.positives is not None and batch.positives.any():
        zeros = zeros - {"contrastive"}  # the other micro-batch has rows to compare with
    expected = mean_losses(tiny_learner(), batch)
    losses = step(learner, strategy, *alike)
    assert {name for name, loss in losses.items() if loss == 0} == zeros
    for name, loss in losses.items():
        if name not in zeros and not (name == "contrastive" and parts == 2):
            torch.testing.assert_close(loss, expected[name].detach())
    assert all(tensor.isfinite().all() for tensor in full_state(strategy).values())


def test_the_callers_batch_is_left_as_it_was() -> None:
    """Hugging Face writes its ignore index into the labels it is given."""
    learner, strategy = prepared()
    batch, untouched = pair_batch(negatives=1, padded=True), pair_batch(negatives=1, padded=True)
    step(learner, strategy, batch)
    for name, value in vars(untouched).items():
        if isinstance(value, Tensor):
            assert torch.equal(getattr(batch, name), value), name
    assert batch.codes is None
