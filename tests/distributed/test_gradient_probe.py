"""Gradients measured objective by objective, under every sharding strategy."""

from __future__ import annotations

import cases
import probe_cases
import pytest
import ranks
import torch
from strategy_cases import STRATEGIES, Tensors, missing, part

NAMES = [name for name in STRATEGIES if not missing(name)]


@pytest.fixture(scope="module")
def reference() -> Tensors:
    return probe_cases.reference(probe_cases.saved())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Tensors]:
    """What each of two ranks found, and last what one process did without sharding."""
    two = ranks.run("probe_cases.everything", 2, tmp_path_factory.mktemp("probe"), timeout=300)
    alone = {
        f"none/measured/{name}": table
        for name, table in probe_cases.measured(cases.ALONE, "none").items()
    }
    return [*two, alone]


def deviation(ours: Tensors, theirs: Tensors) -> float:
    """Largest difference in a table, in parts of its largest entry."""
    assert ours.keys() == theirs.keys()
    return max(
        ((ours[n] - t).abs().max() / t.abs().max().clamp(min=1e-12)).item()
        for n, t in theirs.items()
    )


@pytest.mark.parametrize("name", ["none", *NAMES])
@pytest.mark.parametrize("accumulated", ["one", "two"])
def test_inner_products_are_those_of_plain_autograd(
    name: str, accumulated: str, found: list[Tensors], reference: Tensors
) -> None:
    for tensors in found[2:] if name == "none" else found[:2]:
        assert deviation(part(tensors, f"{name}/measured/{accumulated}/"), reference) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_measuring_again_finds_the_same_and_leaves_no_gradient(
    name: str, found: list[Tensors]
) -> None:
    for tensors in found[:2]:
        one, again = (part(tensors, f"{name}/measured/{key}/") for key in ("one", "again"))
        assert one and all(torch.equal(one[n], again[n]) for n in one)
        assert tensors[f"{name}/measured/gradients left"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_measured_is_the_run_that_is_not(name: str, found: list[Tensors]) -> None:
    for tensors in found[:2]:
        own, other = (part(tensors, f"{name}/{key}/") for key in ("with", "without"))
        assert own.keys() == other.keys()
        assert any(n.startswith("model/") for n in own) or tensors is found[1]
        assert all(torch.equal(own[n], other[n]) for n in own)


def test_objectives_that_read_different_encoders_share_nothing(reference: Tensors) -> None:
    """A gradient left over from another objective would make these products other than 0."""
    order = [name.removeprefix("loss/") for name in reference if name.startswith("loss/")]
    mim, mlm = order.index("mim"), order.index("mlm")
    for name, table in reference.items():
        if name.startswith("gradients/"):
            assert table[mim, mlm] == 0
    assert reference["gradients/image/layer 1"][mlm, mlm] == 0
    assert reference["gradients/text/layer 1"][mlm, mlm] > 0


def test_a_second_backward_pass_on_one_graph_is_not_summed_by_ddp(found: list[Tensors]) -> None:
    """Why each objective has a forward pass of its own."""
    first, second = ([t[f"trap/ddp/{key}"] for t in found[:2]] for key in ("first", "second"))
    assert torch.equal(first[0], first[1])
    assert not torch.allclose(second[0], second[1])


@pytest.mark.skipif("fsdp2" not in NAMES, reason=str(missing("fsdp2")))
def test_gradients_of_autograd_have_gone_through_no_reduction(found: list[Tensors]) -> None:
    """Why gradients are read where the strategy keeps them."""
    own, other = (part(tensors, "trap/fsdp2/") for tensors in found[:2])
    assert any(not torch.allclose(tensor, other[n]) for n, tensor in own.items())
