"""How a learner is cut into what is gathered in one go, and where tensors are looked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_flava import tiny_learner
from torch import Tensor, nn

from flava_plugin.train.sharding.outputs import tensors_in
from flava_plugin.train.sharding.units import find_units, layers_of
from flava_plugin.types import MaskedPrediction

TAKES: dict[str, Callable[[nn.Parameter], bool]] = {
    "fairscale_fsdp": lambda parameter: parameter.requires_grad,
    "fsdp2": lambda parameter: parameter.dim() > 0,
}


def linear() -> nn.Module:
    return nn.Linear(1, 1)


class Parts(nn.Module):
    """A learner with an encoder that has no parameters but those of its two layers."""

    def __init__(self) -> None:
        super().__init__()
        encoder = nn.Module()
        encoder.layers = nn.ModuleList([linear(), linear()])
        self.backbone = nn.ModuleDict({"encoder": encoder, "idle": nn.Identity()})
        self.heads = nn.ModuleDict({"task": linear()})
        self.scale = nn.Parameter(torch.ones(()))


def test_layers_are_found_in_lists_sequences_and_lists_of_lists() -> None:
    encoder = nn.Module()
    encoder.norm = linear()
    encoder.blocks = nn.Sequential(linear(), linear())
    encoder.head = nn.Sequential(linear(), nn.GELU())
    encoder.deep = nn.Module()
    encoder.deep.stages = nn.ModuleList(
        [nn.ModuleList([linear(), linear()]), nn.ModuleDict({"a": linear()}), linear()]
    )
    stages = encoder.deep.stages
    expected = [*encoder.blocks, *stages[0], stages[1]["a"], stages[2]]
    assert list(layers_of(encoder)) == expected


@pytest.mark.parametrize("strategy", TAKES)
def test_units_hold_every_parameter_once_and_inner_ones_come_first(strategy: str) -> None:
    learner = tiny_learner()
    units = find_units(learner, strategy, TAKES[strategy])
    names = [unit.name for unit in units]
    assert names.index("backbone.text_encoder.encoder.layer.1") < names.index(
        "backbone.text_encoder"
    )
    assert units[-1].module is learner
    owned = [name for unit in units for name in unit.parameters]
    taken = {name for name, p in learner.named_parameters() if TAKES[strategy](p)}
    assert len(owned) == len(set(owned)) and set(owned) == taken
    for unit in units:
        assert all(name.startswith(unit.name) for name in unit.parameters)
        assert unit.releases == (".layer." in unit.name)


@pytest.mark.parametrize("strategy", TAKES)
def test_a_unit_may_consist_of_other_units(strategy: str) -> None:
    units = find_units(Parts(), strategy, TAKES[strategy])
    assert [(unit.name, unit.kind, len(unit.parameters)) for unit in units] == [
        ("backbone.encoder.layers.0", "layer", 2),
        ("backbone.encoder.layers.1", "layer", 2),
        ("backbone.encoder", "encoder", 0),
        ("heads.task", "head", 2),
        ("", "rest", 0 if strategy == "fsdp2" else 1),
    ]


@pytest.mark.parametrize("strategy", TAKES)
def test_all_that_does_not_fit_is_told_at_once(strategy: str) -> None:
    learner = Parts()
    learner.heads["task"].weight = learner.backbone["encoder"].layers[0].weight
    learner.heads["more"] = nn.Sequential(linear(), linear().double())
    with pytest.raises(ValueError, match=f"'{strategy}'.*\n.*\n.*\nuse sharding.*ddp_oss") as error:
        find_units(learner, strategy, TAKES[strategy])
    assert "backbone.encoder.layers.0.weight and heads.task.weight are one parameter" in str(
        error.value
    )
    assert "heads.more trains parameters of torch.float32, torch.float64" in str(error.value)


def test_only_what_is_gathered_must_not_be_shared() -> None:
    learner = Parts()
    learner.heads["task"].weight = learner.backbone["encoder"].layers[0].weight
    learner.heads["task"].weight.requires_grad_(False)
    assert find_units(learner, "fairscale_fsdp", TAKES["fairscale_fsdp"])
    with pytest.raises(ValueError, match="are one parameter"):
        find_units(learner, "fsdp2", TAKES["fsdp2"])


class Box:
    """An output of a class that no one knows."""

    __slots__ = ("inside",)

    def __init__(self, inside: Tensor) -> None:
        self.inside = inside


def test_tensors_are_found_in_any_object() -> None:
    tensors = [torch.tensor(float(number)) for number in range(4)]
    prediction = MaskedPrediction(tensors[0], tensors[1], nn.Linear(1, 1))
    outputs = {"a": (tensors[2], None, 3), "b": [Box(tensors[3])], "c": prediction}
    assert tensors_in(outputs) == ([tensors[2], tensors[3], tensors[0], tensors[1]], True)
    del outputs["c"]
    assert tensors_in(outputs) == ([tensors[2], tensors[3]], False)


def test_what_cannot_be_looked_into_is_told() -> None:
    for hidden in (object(), print, nn.Linear(1, 1), iter([]), {"deep": [object()]}):
        assert tensors_in(hidden) == ([], True), hidden
    for plain in ({}, [], None, 1, "word", torch.float32, {"deep": [()]}):
        assert tensors_in(plain) == ([], False), plain


def test_an_object_that_holds_itself_is_looked_into_once() -> None:
    box, tensor = Box(torch.zeros(1)), torch.ones(1)
    box.inside = [box, tensor, tensor]  # type: ignore[assignment]
    assert tensors_in(box) == ([tensor], False)
