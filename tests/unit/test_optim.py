from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from flava_plugin.sections import OptimSection
from flava_plugin.train.optim import adamw, clamp_logit_scale, lr_at, parameter_groups, set_lr


class Parts(nn.Module):
    """One parameter of every sort."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.mask_token = nn.Parameter(torch.ones(1, 1, 4))
        self.position_embeddings = nn.Parameter(torch.ones(1, 5, 4))
        self.words = nn.Embedding(7, 4)
        self.patches = nn.Conv2d(3, 4, 2)
        self.norm = nn.LayerNorm(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))


def listed(module: nn.Module) -> list[tuple[str, int, nn.Parameter]]:
    return [(name, each.dim(), each) for name, each in module.named_parameters()]


def test_matrices_decay_and_nothing_else() -> None:
    parts = Parts()
    names = {id(parameter): name for name, parameter in parts.named_parameters()}
    decayed, spared = parameter_groups(listed(parts), 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {names[id(parameter)] for parameter in decayed["params"]} == {
        "position_embeddings",
        "words.weight",
        "patches.weight",
    }
    assert {names[id(parameter)] for parameter in spared["params"]} == {
        "cls_token",
        "mask_token",
        "patches.bias",
        "norm.weight",
        "norm.bias",
        "logit_scale",
    }


def test_an_empty_group_is_left_out() -> None:
    assert len(parameter_groups(listed(nn.LayerNorm(3)), 0.1)) == 1


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="no trainable parameter"):
        adamw(listed(nn.Linear(2, 2).requires_grad_(False)), OptimSection())


def test_adamw_skips_a_parameter_without_gradient() -> None:
    parts = Parts()
    optimizer = adamw(listed(parts), OptimSection(lr=0.1, weight_decay=0.5))
    for parameter in parts.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()  # now there is momentum
    before = parts.words.weight.detach().clone()
    parts.words.weight.grad = None
    scale = parts.logit_scale.item()
    optimizer.step()
    assert torch.equal(parts.words.weight, before)
    assert optimizer.state[parts.words.weight]["step"] == 1
    assert parts.logit_scale.item() != scale


def test_adamw_without_a_fused_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.3.1")
    assert not adamw(listed(Parts()), OptimSection()).defaults["fused"]
    monkeypatch.undo()
    newer = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)
    assert adamw(listed(Parts()), OptimSection()).defaults["fused"] is newer


def test_schedule_warms_up_and_falls_along_a_cosine() -> None:
    section = OptimSection(lr=2.0, warmup_steps=9, final_share=0.1)
    rates = [lr_at(step, section, 109) for step in range(110)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[8] == pytest.approx(1.8)
    assert rates[9] == 2.0
    assert rates[59] == pytest.approx(0.2 + 1.8 / 2)
    assert rates[84] == pytest.approx(0.2 + 1.8 * (1 + math.cos(0.75 * math.pi)) / 2)
    assert rates[109] == pytest.approx(0.2)
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)


@pytest.mark.parametrize("warmup", [0, 5, 50])
def test_every_step_of_a_short_run_has_a_rate(warmup: int) -> None:
    section = OptimSection(lr=1.0, warmup_steps=warmup)
    rates = [lr_at(step, section, 5) for step in range(5)]
    assert all(0 < rate <= 1 for rate in rates)
    assert lr_at(500, section, 5) == pytest.approx(0.0, abs=1e-12)


def test_set_lr_reaches_every_group() -> None:
    optimizer = adamw(listed(Parts()), OptimSection())
    set_lr(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


@pytest.mark.parametrize(("value", "kept"), [(7.0, 4.5), (-1.0, 0.0), (2.0, 2.0)])
def test_logit_scale_stays_in_bounds(value: float, kept: float) -> None:
    learner = nn.ModuleDict({"losses": nn.ModuleDict({"gcl": Parts()}), "other": nn.Linear(1, 1)})
    scale = learner["losses"]["gcl"].logit_scale
    with torch.no_grad():
        scale.fill_(value)
        learner["other"].weight.fill_(9.0)
    clamp_logit_scale(learner.named_parameters(), 4.5)
    assert scale.item() == kept
    assert learner["other"].weight.item() == 9.0
