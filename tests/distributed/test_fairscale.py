"""FairScale's traps, each of which trains wrong without a word, stay shut."""

from __future__ import annotations

import importlib
import sys

import cases
import fairscale_cases
import pytest
import ranks
import torch
from fairscale_cases import COURSES, STRATEGIES, Tensors
from fairscale_on_cpu import fairscale_on_cpu
from fairscale_traps import CURES
from foreign_learner import Foreign
from strategy_cases import part
from torch import nn

from flava_plugin.sections import ShardingSection
from flava_plugin.train.sharding import fairscale_parts, make_strategy


@pytest.fixture(scope="module")
def alone() -> Tensors:
    return part(fairscale_cases.courses(cases.ALONE), "none/")


@pytest.fixture(scope="module", params=[2, 4])
def every_rank(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Tensors]:
    folder = tmp_path_factory.mktemp("ranks")
    return ranks.run("fairscale_traps.everything", request.param, folder, timeout=300)


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


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_course_is_that_of_one_process(
    alone: Tensors, together: Tensors, strategy: str, course: str
) -> None:
    found = part(together, f"courses/{strategy}/{course}/")
    assert farthest(found, part(alone, f"{course}/")) < 1e-5


@pytest.mark.parametrize("cure", CURES)
def test_without_its_cure_a_trap_is_seen(alone: Tensors, together: Tensors, cure: str) -> None:
    """Should one of these fail, FairScale or torch has changed and the cure may go."""
    expected = part(alone, f"{CURES[cure][2]}/")
    assert farthest(part(together, f"without/{cure}/"), expected) > 1e-3


def test_types_of_buffers_are_left_alone(alone: Tensors, together: Tensors) -> None:
    name = "foreign/0/model/backbone.encoder.shift"
    assert alone[name].dtype == torch.float64
    for strategy in STRATEGIES:
        assert together[f"courses/{strategy}/{name}"].dtype == torch.float64


def test_frozen_parameters_stay_and_have_no_state(together: Tensors) -> None:
    for strategy in STRATEGIES:
        weights = part(together, f"courses/{strategy}/foreign/")
        name = "model/backbone.encoder.embed.weight"
        assert torch.equal(weights[f"0/{name}"], weights[f"2/{name}"])
        assert not any("embed.weight" in n for n in weights if "/optim/" in n)
        bias = "model/backbone.encoder.embed.bias"
        assert not torch.equal(weights[f"0/{bias}"], weights[f"2/{bias}"])


def test_the_norm_counts_what_the_first_step_did_not_reach(together: Tensors) -> None:
    norms = part(together, "norms/")
    assert norms["ours/image"] == pytest.approx(norms["oss/image"].item(), rel=1e-5)
    assert norms["ours/text"] > 0.5
    assert norms["oss/text"] == 0, "OSS keeps no list of the first step's gradients any more"


@pytest.mark.parametrize("strategy", ["ddp_oss", "fairscale_sdp"])
def test_each_parameter_has_one_owner_and_all_ranks_its_value(
    every_rank: list[Tensors], strategy: str
) -> None:
    first, *others = (part(tensors, f"owners/{strategy}/") for tensors in every_rank)
    size = len(every_rank)
    for name, weight in part(first, "weight/").items():
        assert all(torch.equal(weight, other[f"weight/{name}"]) for other in others), name
        holders = sum(int(tensors[f"state/{name}"]) for tensors in (first, *others))
        gradients = sum(int(tensors[f"gradient/{name}"]) for tensors in (first, *others))
        reached = gradients > 0
        assert holders == reached, name
        if reached:
            assert gradients == (size if strategy == "ddp_oss" else 1), name
    states = [sum(part(tensors, "state/").values()) for tensors in (first, *others)]
    assert min(states) > 0


def test_whole_layers_are_there_one_at_a_time(every_rank: list[Tensors]) -> None:
    for tensors in every_rank:
        found = part(tensors, "memory/")
        assert found["most layers at once"] == found["largest layer"]
        assert found["rest after forward"] > 0
        for moment in ("before", "layers after forward", "after backward"):
            assert found[moment] == 0, moment
    learner = fairscale_cases.deep_learner(0, recompute=False, dropout=0.0)
    elements = sum(parameter.numel() for parameter in learner.parameters())
    assert sum(int(tensors["memory/own"]) for tensors in every_rank) == elements


def test_each_unit_sums_its_gradient_once_in_a_backward_pass(together: Tensors) -> None:
    """FairScale registers a hook with each forward, and never removes one."""
    sums = [together[f"memory/sums/{number}"] for number in range(3)]
    assert set(sums[0].tolist()) == {0, 1}
    assert torch.equal(sums[2], 3 * sums[0])


@pytest.mark.parametrize("every_rank", [2], indirect=True)  # not on 4, for the time it takes
def test_compiled_layers_compute_the_same_and_are_compiled_once(
    alone: Tensors, together: Tensors
) -> None:
    found = part(together, "compiled/")
    assert found.pop("more graphs") == 0
    assert farthest(found, part(alone, "deep, joined passes/")) < 1e-5


def make(learner: nn.Module) -> object:
    section = ShardingSection(strategy="fairscale_fsdp")
    return make_strategy(section, learner, cases.OPTIM, cases.ALONE)


def test_without_a_gpu_fsdp_says_what_to_take() -> None:
    with pytest.raises(
        ValueError, match="needs a GPU.*device cpu.*ddp_oss, fairscale_sdp or fsdp2"
    ):
        make(Foreign(0))


def test_a_parameter_shared_by_parts_is_refused_by_both_names() -> None:
    learner = Foreign(0)
    learner.heads["loss"].up.weight = learner.backbone["encoder"].row[0].weight
    with (
        fairscale_on_cpu(),
        pytest.raises(
            ValueError, match=r"encoder\.row\.0\.weight and heads\.loss\.up\.weight are one"
        ),
    ):
        make(learner)


def test_parameters_cannot_be_read_when_they_are_not_there() -> None:
    learner = Foreign(0)
    with fairscale_on_cpu():
        make(learner)
    with pytest.raises(AttributeError, match="weight"):
        _ = learner.heads["loss"].up.weight


def test_one_process_shares_nothing_out_and_needs_no_process_group() -> None:
    for name in ("ddp_oss", "fairscale_sdp"):
        learner = Foreign(0)
        section = ShardingSection(strategy=name)
        strategy = make_strategy(section, learner, cases.OPTIM, cases.ALONE)
        assert strategy.module is learner
        assert type(strategy.optimizer) is torch.optim.AdamW


def test_without_fairscale_it_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fairscale.nn.data_parallel", None)
    monkeypatch.delitem(sys.modules, fairscale_parts.__name__)
    with pytest.raises(ValueError, match="pip install fairscale==0.4.13.*fsdp2"):
        importlib.import_module(fairscale_parts.__name__)
