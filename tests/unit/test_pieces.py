from __future__ import annotations

import pytest
import torch
from torch import nn

from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.pieces import Piece, Whole, assemble, by_parameter, flat_names, whole
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.sharding.saved_shards import load_model, model_pieces
from flava_plugin.train.sharding.shards import Held, Shard, clip_shards
from flava_plugin.train.world import World

ALONE = World(0, 1, 0, torch.device("cpu"))


def test_pieces_make_a_whole_in_any_order() -> None:
    tensor = torch.arange(12.0).view(3, 4)
    flat = tensor.reshape(-1)
    parts = [Piece("w", (3, 4), start, flat[start:stop]) for start, stop in ((5, 12), (0, 5))]
    found = assemble([*parts, Piece("step", (), 0, torch.tensor([3.0]))])
    assert torch.equal(found["w"], tensor)
    assert found["step"].shape == () and found["step"] == 3


def test_a_hole_is_named() -> None:
    with pytest.raises(ValueError, match="w lacks 2 elements"):
        assemble([Piece("w", (2, 3), 0, torch.zeros(4))])


def test_optimiser_state_is_sorted_by_parameter_and_back() -> None:
    flat = {"a.b.step": torch.ones(()), "a.b.exp_avg": torch.ones(2), "c.step": torch.zeros(())}
    assert by_parameter(flat).keys() == {"a.b", "c"}
    assert flat_names(by_parameter(flat)).keys() == flat.keys()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("places", torch.arange(4))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_ranks_share_the_writing_of_what_all_of_them_hold(size: int) -> None:
    model = Tied()
    held = Held.of_replica(model)
    worlds = [World(rank, size, 0, ALONE.device) for rank in range(size)]
    spread = [model_pieces(held, world, spread=True) for world in worlds]
    found = assemble([piece for pieces in spread for piece in pieces])
    state = model.state_dict()
    assert found.keys() == state.keys(), "a tied parameter stands under both names"
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    alone = [model_pieces(held, world, spread=False) for world in worlds]
    assert assemble(alone[0]).keys() == state.keys()
    assert not any(alone[1:])


def test_tied_parameters_are_updated_once_and_loaded_under_both_names() -> None:
    model = Tied()
    held = Held.of_replica(model)
    assert [shard.name for shard in held.trained] == ["one.weight", "one.bias"]
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    load_model(held, Whole(state))
    assert torch.equal(model.two.weight, state["one.weight"])
    assert torch.equal(model.places, state["places"])


def test_what_a_rank_takes_of_the_whole_is_its_own_range() -> None:
    value = nn.Parameter(torch.zeros(5))
    shapes = {"w": (3, 4)}
    held = Held([Shard("w", (3, 4), 6, value, shared=False)], {}, shapes)
    source = Whole({"w": torch.arange(12.0).view(3, 4)})
    load_model(held, source)
    assert value.tolist() == [6, 7, 8, 9, 10]
    assert torch.equal(whole(source, "w"), torch.arange(12.0).view(3, 4))


def test_the_norm_of_parts_is_that_of_the_whole() -> None:
    gradient = torch.randn(12)
    shards = []
    for start, stop in ((0, 7), (7, 12)):
        value = nn.Parameter(torch.zeros(stop - start))
        value.grad = gradient[start:stop].clone()
        shards.append(Shard("w", (12,), start, value, shared=False))
    norm = clip_shards(shards, norm_allowed := 0.5, ALONE)
    torch.testing.assert_close(norm, gradient.norm())
    clipped = torch.cat([s.value.grad for s in shards if s.value.grad is not None])
    torch.testing.assert_close(clipped, gradient * norm_allowed / (gradient.norm() + 1e-6))


def test_an_overflow_shows_in_the_norm_and_the_scale_is_undone() -> None:
    model = nn.Linear(2, 1)
    strategy = make_strategy(ShardingSection(strategy="none"), model, OptimSection(), ALONE)
    for scale in (1.0, 1024.0):
        strategy.zero_grad()
        strategy.backward(model(torch.ones(1, 2)).sum() * scale)
        norm = strategy.clip_grad_norm(None, loss_scale=scale)
        torch.testing.assert_close(norm, torch.tensor(3.0).sqrt())
    assert model.weight.grad is not None
    model.weight.grad[0, 0] = float("inf")
    assert not strategy.clip_grad_norm(1.0, loss_scale=2.0).isfinite()
