"""What each weight strategy makes of losses, of norms and of inner products."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flava_plugin import registry
from flava_plugin.balance_types import ByLosses, Objectives
from flava_plugin.components import surgery
from flava_plugin.components.balances import ScalarAdam
from flava_plugin.data.rounds import Rounds
from flava_plugin.plan.fit import warnings
from flava_plugin.plan.options import Options
from flava_plugin.plan.predict import plan
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.schema import Component
from flava_plugin.sections_balance import BalanceSection
from flava_plugin.train.balance import Balance, norms_of
from flava_plugin.train.gradient_probe import Gradients
from flava_plugin.train.world import World

ALONE = World(0, 1, 0, torch.device("cpu"))
GIVEN = {"mim": 1.0, "mlm": 1.0, "itm": 2.0}
KINDS = {"mim": "image", "mlm": "text", "itm": "pair"}


def made(strategy: str, given: Mapping[str, float] = GIVEN, **options: Any) -> Any:
    return registry.balances.build(strategy, Objectives(given, KINDS, "accumulated"), **options)


def balance(strategy: str, **options: Any) -> Balance:
    objectives = {
        name: SimpleNamespace(weight=weight, modality=KINDS[name]) for name, weight in GIVEN.items()
    }
    section = BalanceSection(strategy=Component(type=strategy, **options))
    return Balance(section, objectives)  # type: ignore[arg-type]


def test_gradient_norm_raises_a_starved_objective() -> None:
    """Norms as measured in the joint run: ITM's are 50 to 100 times smaller than the others'."""
    own = made("gradient_norm", {"mim": 1.0, "mlm": 1.0, "itm": 1.0}, limit=1000.0)
    assert own.weights == {"mim": 1.0, "mlm": 1.0, "itm": 1.0}
    own.measure({"image": {"mim": 0.64, "itm": 0.01}, "text": {"mlm": 0.64, "itm": 0.01}})
    # on both encoders the target is sqrt(.64 x .01) = .08
    assert own.weights == pytest.approx({"mim": 0.125, "mlm": 0.125, "itm": 8.0})
    norms = {"mim": 0.64, "itm": 0.01}
    evened = [own.weights[name] * norm for name, norm in norms.items()]
    assert evened == pytest.approx([0.08, 0.08])


def test_gradient_norm_averages_an_objective_over_its_encoders() -> None:
    own = made("gradient_norm", {"mim": 1.0, "mlm": 1.0, "itm": 1.0}, limit=1000.0)
    own.measure({"image": {"mim": 1.0, "itm": 0.01}, "text": {"mlm": 1.0, "itm": 1.0}})
    assert own.weights == pytest.approx({"mim": 0.1, "mlm": 1.0, "itm": math.sqrt(10 * 1)})


def test_gradient_norm_takes_the_recipes_weights_for_its_target() -> None:
    own = made("gradient_norm", {"mim": 1.0, "mlm": 0.0, "itm": 3.0})
    own.measure({"fused": {"mim": 1.0, "mlm": 5.0, "itm": 0.25}})
    assert own.weights["mlm"] == 0
    assert own.weights["itm"] * 0.25 == pytest.approx(3 * own.weights["mim"] * 1.0)


def test_gradient_norm_moves_slowly_and_not_too_far() -> None:
    given = {"mim": 1.0, "itm": 1.0}
    half = made("gradient_norm", given, decay=0.5)
    half.measure({"image": {"mim": 1.0, "itm": 1.0}})
    half.measure({"image": {"mim": 1.0, "itm": 1 / 16}})
    assert half.weights == pytest.approx({"mim": 0.5, "itm": 2.0})  # log-mean of 1 and 1/16
    bounded = made("gradient_norm", given, limit=3.0)
    bounded.measure({"image": {"mim": 1.0, "itm": 1e-4}})
    assert bounded.weights == pytest.approx({"mim": 1 / 3, "itm": 3.0}, rel=1e-5)
    none = made("gradient_norm", given, strength=0.0)
    none.measure({"image": {"mim": 1.0, "itm": 1e-4}})
    assert none.weights == given


def test_gradient_norm_leaves_what_reaches_no_shared_encoder() -> None:
    own = made("gradient_norm")
    own.measure({"image": {"mim": 1.0, "mlm": 0.0, "itm": 0.0}, "text": {"mlm": 3.0, "itm": 0.0}})
    assert own.weights == GIVEN


def test_ema_counts_every_loss_as_one() -> None:
    own = made("ema", decay=0.5, limit=8.0)
    for _ in range(60):
        own.note({"mim": 4.0, "itm": 0.5})
    assert own.weights == pytest.approx({"mim": 0.25, "mlm": 1.0, "itm": 4.0})
    own.note({"itm": 1.5})
    assert own.weights["itm"] == pytest.approx(2.0) and own.weights["mim"] == pytest.approx(0.25)
    for _ in range(60):
        own.note({"itm": 1e-6})
    assert own.weights["itm"] == pytest.approx(2 * 8.0)


def test_uncertainty_ends_at_half_the_inverse_loss() -> None:
    own = made("uncertainty", limit=10.0)
    for _ in range(600):
        own.note({"mim": 2.0, "itm": 0.01})
    assert own.weights["mim"] == pytest.approx(0.25, rel=0.02)
    assert own.weights["itm"] == pytest.approx(2 * 10.0)
    assert own.weights["mlm"] == 1.0


def test_scalar_adam_is_torchs() -> None:
    number = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.Adam([number], lr=0.03)
    ours = ScalarAdam(["s"], 0.03, (0.9, 0.999))
    for gradient in (0.5, -0.1, 2.0, 0.0, 1e-3):
        number.grad = torch.tensor([gradient], dtype=torch.float64)
        theirs.step()
        ours.update("s", gradient)
        assert ours["s"] == pytest.approx(number.item(), abs=1e-12)


def test_famo_is_the_papers_where_every_step_has_all_losses() -> None:
    """Against the update of the paper's code, written out with autograd."""
    given = dict.fromkeys(GIVEN, 1.0)
    own = made("famo", given, decay=0.0, limit=1e6)
    number = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.Adam([number], lr=0.025, weight_decay=0.001)
    losses = torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64)
    falls = torch.tensor([0.99, 0.9, 1.01], dtype=torch.float64)
    own.note(dict(zip(given, losses.tolist(), strict=True)))
    for _ in range(30):
        before, losses = losses, losses * falls
        z = torch.softmax(number, 0)
        (number.grad,) = torch.autograd.grad(z, number, before.log() - losses.log())
        theirs.step()
        own.note(dict(zip(given, losses.tolist(), strict=True)))
    weights = torch.softmax(number, 0).detach() / losses
    expected = (weights / weights.mean()).tolist()
    assert list(own.weights.values()) == pytest.approx(expected, rel=1e-6)
    assert own.learnt["itm"] > own.learnt["mim"] > own.learnt["mlm"]  # what falls least gains


def test_famo_leaves_what_a_step_does_not_train() -> None:
    own = made("famo")
    own.note({"mim": 2.0, "mlm": 3.0})
    own.note({"mlm": 2.0})
    assert own.learnt["mim"] == 0 and own.learnt["itm"] == 0 and own.learnt["mlm"] < 0
    assert own.weights["itm"] == 2.0


@pytest.mark.parametrize("strategy", ["ema", "uncertainty", "famo"])
def test_a_loss_of_no_row_and_one_that_is_no_number_change_nothing(strategy: str) -> None:
    own = balance(strategy)
    assert isinstance(made(strategy), ByLosses)
    own.note(1, losses(mim=2.0, mlm=3.0, itm=0.5), never, ALONE)
    before = json.dumps(own.state())
    own.note(2, losses(mim=0.0, mlm=math.nan, itm=math.inf), never, ALONE)
    assert json.dumps(own.state()) == before
    again = balance(strategy)
    again.load_state(json.loads(before))
    assert again.weights == own.weights
    for each in (own, again):
        each.note(3, losses(mim=1.0, mlm=2.0), never, ALONE)
    assert again.state() == own.state()


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def never() -> Gradients:
    raise AssertionError("nothing is to be measured")


def measured(*squares: float) -> Callable[[], Gradients]:
    table = torch.diag(torch.tensor(squares, dtype=torch.float64))
    groups = {"fused/layer 1": table, "fused/final": table * 3, "heads/all": table * 100}
    return lambda: Gradients(list(GIVEN), dict.fromkeys(GIVEN, 1.0), groups, groups)


def test_norms_are_those_of_whole_encoders_without_heads() -> None:
    assert norms_of(measured(1.0, 4.0, 0.0)()) == {"fused": {"mim": 2.0, "mlm": 4.0, "itm": 0.0}}


def test_weights_are_measured_when_it_is_time_and_told_once() -> None:
    own = balance("gradient_norm", every=5)
    own.note(4, losses(mim=2.0), never, ALONE)
    assert own.begun(3, 2) is None and own.begun(0, 2) == GIVEN
    own.note(5, losses(mim=2.0), measured(1.0, 1.0, 1 / 16), ALONE)
    assert own.weights["itm"] / 2 == pytest.approx(4 * own.weights["mim"], rel=1e-5)
    told = [step for step in range(5, 12) if own.begun(step, 2)]
    assert told == [5]
    before = own.weights
    own.note(10, losses(mim=2.0), measured(1.0, math.inf, 1.0), ALONE)  # fp16 overflowed
    assert own.weights == before


def test_fixed_weights_are_the_recipes_and_so_is_their_state() -> None:
    own = balance("fixed")
    own.note(100, losses(mim=2.0), never, ALONE)
    assert own.weights == GIVEN and own.begun(99, 10) is None
    assert own.state() == {"strategy": "fixed", "weights": GIVEN}


def test_surgery_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surgery, "find_spec", lambda name: None)
    changes = ["balance.strategy={type: surgery, weighting: UPGrad}", "steps=0"]
    with pytest.raises(RecipeError) as refused:
        load_recipe("pretrain/shapes", changes, check_files=False)
    text = str(refused.value)
    assert "steps" in text and "set balance.step=accumulated" in text
    assert "UPGrad needs torchjd and quadprog and qpsolvers" in text
    assert "pip install 'flava-plugin[surgery]'" in text


def test_surgery_draws_by_seed_and_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surgery, "find_spec", lambda name: name)
    drawn = property(lambda _: lambda table: torch.rand(len(table)))
    monkeypatch.setattr(surgery.Surgery, "_torchjd", drawn)
    own, table = made("surgery"), [[1.0, 0.0], [0.0, 1.0]]
    before = torch.get_rng_state()
    assert own.combine(table, 3) == own.combine(table, 3) != own.combine(table, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_pcgrad_takes_a_conflict_out() -> None:
    pytest.importorskip("torchjd", reason="the extra 'surgery' is not installed")
    factors = made("surgery", weighting="PCGrad").combine([[1.0, -0.5], [-0.5, 1.0]], 0)
    assert factors == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["balance.strategy=gradient_nrom"], "did you mean 'gradient_norm'"),
        (["balance.strategy={type: ema, decay: 1}"], "balance.strategy.decay"),
        (["balance.strategy={type: ema, limit: 0.5}"], "balance.strategy.limit"),
        (["balance.strategy={type: gradient_norm, evry: 3}"], "did you mean 'every'"),
        (["balance.step=acumulated"], "balance.step"),
        (["balance.step=accumulated", "mixture.strategy=need"], "set mixture.strategy=fixed"),
    ],
)
def test_a_recipe_is_refused_by_name(changes: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe("pretrain/shapes", changes, check_files=False)


def test_a_name_alone_is_a_strategy(tmp_path: Path) -> None:
    recipe = load_recipe("pretrain/shapes", ["balance.strategy=gradient_norm"], check_files=False)
    assert recipe.balance.strategy.type == "gradient_norm"


def test_rounds_deal_the_steps_of_a_kind_to_its_sources() -> None:
    data = load_recipe("pretrain/shapes", check_files=False).data
    pairs = data.sources["pairs"]
    sources = {
        "many": pairs.model_copy(update={"share": 0.6}),
        "few": pairs.model_copy(update={"share": 0.2}),
        "sentences": data.sources["sentences"],
    }
    rounds = Rounds(sources, seed=5)
    turns = [list(rounds.turns(step)) for step in range(40)]
    assert len(rounds) == 2 and all(len(each) == 2 for each in turns)
    assert [each[1] for each in turns] == [(step, "sentences", step) for step in range(40)]
    for name, count in (("many", 30), ("few", 10)):
        before = [turn.before for each in turns for turn in each if turn.source == name]
        assert before == list(range(count))


def test_a_plan_of_accumulated_steps_adds_the_kinds_up() -> None:
    options = Options(device="h100", gpus=8)
    changes = ["sharding.strategy=ddp", "run_dir=."]
    name = "pretrain/flava_released"
    one = plan(load_recipe(name, changes, check_files=False), options)
    changes.append("balance.step=accumulated")
    all_kinds = plan(load_recipe(name, changes, check_files=False), options)
    assert all_kinds.mean_seconds == pytest.approx(sum(s.total_seconds for s in one.steps))
    rows = all_kinds.samples_per_second * all_kinds.mean_seconds
    assert rows == pytest.approx(3 * one.samples_per_second * one.mean_seconds)
    assert any("balance.step accumulated" in line for line in warnings(all_kinds))
