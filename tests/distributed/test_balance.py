"""Weights that move and accumulated steps, the same under every sharding strategy."""

from __future__ import annotations

from collections.abc import Sequence

import balance_cases
import cases
import pytest
import ranks
import shared_batches
import torch
from strategy_cases import STRATEGIES, Tensors, missing, part
from torch import Tensor

from flava_plugin.data.steps import Step
from flava_plugin.model.learner import Learner
from flava_plugin.sections import ObjectiveSection, ShardingSection
from flava_plugin.train.accumulated import Computing
from flava_plugin.train.balance import Balance
from flava_plugin.train.gradient_groups import groups_of
from flava_plugin.train.sharding import make_strategy
from flava_plugin.types import Modality

NAMES = [name for name in STRATEGIES if not missing(name)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Tensors]:
    folder = tmp_path_factory.mktemp("balance")
    return ranks.run("balance_cases.everything", 2, folder, timeout=300)


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensors]:
    """Each run in one process without sharding."""
    return {
        name: balance_cases.trained(cases.ALONE, "none", name) for name in balance_cases.BALANCES
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("balancing", balance_cases.SHARDED)
def test_a_sharded_run_is_that_of_one_process(
    name: str, balancing: str, found: list[Tensors], alone: dict[str, Tensors]
) -> None:
    own, expected = part(found[0], f"{name}/{balancing}/"), alone[balancing]
    assert own.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.allclose(own[key], tensor, rtol=1e-4, atol=1e-5), key
    other = part(found[1], f"{name}/{balancing}/")
    for key, tensor in other.items():
        if key.endswith("/weights"):
            assert torch.equal(tensor, own[key]), "weights differ between ranks"


def test_weights_move_as_their_strategy_says(alone: dict[str, Tensors]) -> None:
    given = list(shared_batches.WEIGHTS.values())
    assert alone["fixed"]["2/weights"].tolist() == given
    assert alone["norms"]["0/weights"].tolist() == given
    assert alone["norms"]["1/weights"].tolist() == alone["norms"]["2/weights"].tolist() != given
    rows = [alone["ema"][f"{number}/weights"] for number in range(3)]
    assert not torch.equal(rows[0], rows[1]) and not torch.equal(rows[1], rows[2])


def plain_gradients(kinds: tuple[Modality, ...]) -> dict[str, Tensor]:
    """What autograd makes of the sum of weighted mean losses, on one replica with all rows."""
    learner = shared_batches.learner(seed=0)
    total = torch.zeros(())
    for kind in kinds:
        (batch,) = balance_cases.batch_of(cases.ALONE, 0, kind).micro_batches
        counts = learner.counts(batch)
        losses = learner(batch)
        for name, count in counts.items():
            if not learner.is_global(name):
                weight = shared_batches.WEIGHTS[name]
                total = total + weight * losses[name] / count.clamp(min=1)
    total.backward()
    return {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}


def computed(
    balancing: str, kinds: tuple[Modality, ...], objectives: dict[str, ObjectiveSection]
) -> Learner:
    """A learner of one process with the gradients of one accumulated step."""
    learner = shared_batches.learner(seed=0)
    groups = groups_of(learner)
    strategy = make_strategy(ShardingSection(strategy="none"), learner, cases.OPTIM, cases.ALONE)
    balance = Balance(balance_cases.BALANCES[balancing], objectives)
    parts = tuple(balance_cases.batch_of(cases.ALONE, 0, kind) for kind in kinds)
    step = Step(0, "all", kinds[0], [], [], parts=parts)
    Computing(strategy, learner, balance, groups, 0, "fp32").step(step)
    return learner


def test_surgery_leaves_out_what_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective of no weight, whose gradient would be the shortest of all."""
    seen: list[Sequence[Sequence[float]]] = []

    def combine(_: object, gramian: Sequence[Sequence[float]], step: int) -> list[float]:
        seen.append(gramian)
        return [2.0] * len(gramian)

    monkeypatch.setattr(balance_cases.NormsAlike, "combine", combine)
    objectives = shared_batches.objectives(1024)
    plain = computed("fixed", ("image", "text"), objectives)
    objectives["mim"] = objectives["mim"].model_copy(update={"weight": 0.0})
    learner = computed("surgery", ("image", "text"), objectives)
    [gramian] = seen
    assert len(gramian) == 1 and gramian[0][0] > 0  # MLM's
    for name, parameter in learner.backbone.text_encoder.named_parameters():
        if parameter.grad is not None:
            own = plain.backbone.text_encoder.get_parameter(name).grad
            torch.testing.assert_close(parameter.grad, 2 * own)
    heads = dict(plain.heads.named_parameters())
    for name, parameter in learner.heads.named_parameters():  # an objective's own: as they are
        if name.startswith("mlm."):
            torch.testing.assert_close(parameter.grad, heads[name].grad)


def test_an_accumulated_step_has_the_sum_of_all_kinds_gradients() -> None:
    """Of images and texts, whose losses are plain sums over rows."""
    learner = computed("fixed", ("image", "text"), shared_batches.objectives(1024))
    expected = plain_gradients(("image", "text"))
    made = {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}
    assert made.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(made[name], gradient, rtol=1e-5, atol=1e-6)
