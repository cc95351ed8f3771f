"""FSDP2's traps, of which most train wrong without a word, stay shut."""

from __future__ import annotations

from typing import Any

import cases
import pytest
import ranks
import shared_batches
import torch
from fairscale_cases import Tensors
from strategy_cases import part
from torch import nn

from flava_plugin.sections import ShardingSection
from flava_plugin.train.sharding import fsdp2, make_strategy
from flava_plugin.train.world import World, disconnect

if fsdp2.TORCH < (2, 6):
    reason = f"fsdp2 needs torch 2.6 or newer, here is {torch.__version__}"
    pytest.skip(reason, allow_module_level=True)

import fsdp2_cases
import fsdp2_learners
from fsdp2_cases import CURES, OURS, SIZE


@pytest.fixture(scope="module")
def alone() -> Tensors:
    return fsdp2_cases.courses(cases.ALONE)


@pytest.fixture(scope="module")
def every_rank(tmp_path_factory: pytest.TempPathFactory) -> list[Tensors]:
    folder = tmp_path_factory.mktemp("ranks")
    return ranks.run("fsdp2_cases.everything", SIZE, folder, timeout=300)


@pytest.fixture(scope="module")
def together(every_rank: list[Tensors]) -> Tensors:
    return every_rank[0]


def farthest(found: Tensors, expected: Tensors) -> float:
    """Largest difference, relative to what is large; infinite where names differ."""
    if found.keys() != expected.keys():
        return float("inf")
    return max(
        float(((found[n] - t).abs() / t.abs().clamp(min=1)).max()) for n, t in expected.items()
    )


def course_of(tensors: Tensors, title: str) -> Tensors:
    found = part(tensors, f"{title}/")
    found.pop("types", None)  # seen on several ranks only
    return found


@pytest.mark.parametrize("title", OURS)
def test_every_course_is_that_of_one_process(alone: Tensors, together: Tensors, title: str) -> None:
    found = course_of(part(together, "course/"), title)
    assert farthest(found, course_of(alone, title)) < 1e-5


@pytest.mark.parametrize("title", CURES)
def test_no_cure_can_be_left_out(alone: Tensors, together: Tensors, title: str) -> None:
    found = course_of(part(together, "uncured/"), title)
    assert found
    assert farthest(found, course_of(alone, CURES[title][1])) > 1e-3


def test_layers_are_let_go_after_their_forward_pass(together: Tensors) -> None:
    memory = part(together, "memory/")
    assert memory["layers during"] == 0
    assert memory["heads during"] > 0
    assert memory["gathered after"] == 0


def test_the_optimiser_updates_what_the_model_computes_from(every_rank: list[Tensors]) -> None:
    for tensors in every_rank:
        assert tensors["memory/same memory"]
        assert tensors["memory/same objects"]


def test_ranks_hold_parts_of_weights_and_of_gradients(every_rank: list[Tensors]) -> None:
    learner = fsdp2_cases.deep_learner(0, recompute=False, dropout=0.0)
    whole = sum(parameter.numel() for parameter in learner.parameters())
    shares = [int(tensors["memory/share"]) for tensors in every_rank]
    assert sum(shares) == whole + SIZE - 1  # every rank has the logit scale
    assert max(shares) < 0.6 * whole
    for tensors, share in zip(every_rank, shares, strict=True):
        assert 0 < tensors["memory/gradients while they accumulate"] <= share
    assert every_rank[-1]["memory/rows of none"] > 0


def test_ranks_that_call_different_layers_are_refused(every_rank: list[Tensors]) -> None:
    for tensors in every_rank:
        message = bytes(tensors["refused/order"].tolist()).decode()
        assert "ranks called layers or heads in different orders" in message
        assert "sharding.strategy=ddp_oss" in message


def make(learner: nn.Module, world: World = cases.ALONE) -> Any:
    return make_strategy(ShardingSection(strategy="fsdp2"), learner, cases.OPTIM, world)


@pytest.fixture
def leave() -> Any:
    yield
    disconnect()


def test_parameters_shared_by_parts_are_refused(leave: None) -> None:
    learner = shared_batches.learner()
    learner.heads[
        "mlm"
    ].cls.decoder.weight = learner.backbone.text_encoder.embeddings.word_embeddings.weight
    with pytest.raises(ValueError, match="'fsdp2' gathers") as error:
        make(learner)
    assert "heads.mlm.cls.decoder.weight" in str(error.value)
    assert "backbone.text_encoder.embeddings.word_embeddings.weight" in str(error.value)
    assert "sharding.strategy=ddp_oss" in str(error.value)


def test_parts_that_train_two_types_of_numbers_are_refused(leave: None) -> None:
    learner = shared_batches.learner()
    learner.heads["mlm"].cls.bias.data = learner.heads["mlm"].cls.bias.data.double()
    with pytest.raises(ValueError, match=r"heads.mlm trains parameters of torch.float32, torch.f"):
        make(learner)


def test_parameters_used_behind_fsdp2s_back_are_refused(leave: None) -> None:
    learner = fsdp2_learners.Hoarding()
    strategy = make(learner)
    batch = shared_batches.batch("image", cases.ROWS)
    late = r"gradients of backbone\.encoder\.weight, backbone\.encoder\.bias when more came"
    with pytest.raises(RuntimeError, match=late):
        strategy.backward(strategy.module(batch)["loss"])


def test_torch_before_2_6_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdp2, "TORCH", (2, 5))
    with pytest.raises(ValueError, match="needs torch 2.6 or newer.*sharding.strategy=ddp_oss"):
        make(shared_batches.learner())


def test_a_backend_that_adds_up_instead_of_averaging_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def adds(output: torch.Tensor, given: torch.Tensor, op: Any) -> None:
        output.copy_(given.sum())

    monkeypatch.setattr(fsdp2.dist, "reduce_scatter_tensor", adds)
    with pytest.raises(ValueError, match="adds up on a CPU"):
        make(shared_batches.learner(), World(0, 2, 0, torch.device("cpu")))
