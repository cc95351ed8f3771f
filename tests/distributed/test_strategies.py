"""Every sharding strategy, on 1, 2 and 4 ranks, does what one process does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cases
import pytest
import ranks
import strategy_cases
import torch
from strategy_cases import RESUMED, SAVED, STEPS, STRATEGIES, Tensors, missing, part

from flava_plugin.train.world import disconnect

ON_TEXTS = ("backbone.text_encoder.", "heads.mlm.")
ON_IMAGES = ("backbone.image_encoder.", "heads.mim.")
ON_PAIRS = (
    "backbone.mm_encoder.",
    "backbone.image_to_mm_projection.",
    "backbone.text_to_mm_projection.",
    "backbone.image_projection.",
    "backbone.text_projection.",
    "heads.itm.",
    "heads.mmm_text.",
    "heads.mmm_image.",
    "losses.",
)
NEVER_READ = (".pooler.",)
"""Parameters that no objective reads have this in their name, but for ITM's own pooler."""


@pytest.fixture(scope="module")
def alone() -> Tensors:
    return strategy_cases.everything(cases.ALONE, "none", strategy_cases.saved_alone())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Tensors]:
    """What rank 0 of that many found of all strategies; ranks are started once for each number."""

    @cache
    def start(size: int) -> Tensors:
        if size > 1:
            folder = tmp_path_factory.mktemp("ranks")
            return ranks.run("strategy_cases.every_strategy", size, folder, timeout=600)[0]
        try:
            return strategy_cases.every_strategy(cases.ALONE)
        finally:
            disconnect()

    return start


@pytest.fixture(
    scope="module",
    params=[(strategy, size) for size in (1, 2, 4) for strategy in STRATEGIES],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def together(
    request: pytest.FixtureRequest, started: Callable[[int], Tensors]
) -> tuple[str, int, Tensors]:
    strategy, size = request.param
    if reason := missing(strategy):
        pytest.skip(reason)
    return strategy, size, part(started(size), f"{strategy}/")


def assert_near(found: Tensors, expected: Tensors, tolerance: float) -> None:
    assert expected and found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name],
            tensor,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, n=name: f"{n}: {text}",
        )


def losses_of(tensors: Tensors, first: int, last: int) -> Tensors:
    losses = part(tensors, "run/loss/")
    return {n: t for n, t in losses.items() if first <= int(n.partition("/")[0]) < last}


def moved(tensors: Tensors, number: int) -> set[str]:
    """Names of parameters that a step changed."""
    before = part(tensors, f"run/state {number}/model/")
    after = part(tensors, f"run/state {number + 1}/model/")
    return {name for name, tensor in before.items() if not tensor.equal(after[name])}


def test_losses_and_norms_are_those_of_one_process(
    alone: Tensors, together: tuple[str, int, Tensors]
) -> None:
    found = losses_of(together[2], 0, STEPS)
    assert {int(name.partition("/")[0]) for name in found} == set(range(STEPS))
    assert_near(found, losses_of(alone, 0, STEPS), 1e-5)


@pytest.mark.parametrize("number", [1, 2, 3, STEPS])
def test_weights_and_optimiser_state_are_those_of_one_process(
    alone: Tensors, together: tuple[str, int, Tensors], number: int
) -> None:
    expected = part(alone, f"run/state {number}/")
    assert_near(part(together[2], f"run/state {number}/"), expected, 3e-6)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_parameter_that_should_move_moves(
    alone: Tensors, together: tuple[str, int, Tensors], number: int
) -> None:
    """Torch's FSDP2 can train nothing and say nothing of it."""
    expected = moved(alone, number)
    assert moved(together[2], number) == expected
    reached = {0: ON_PAIRS, 1: ON_IMAGES, 2: ON_TEXTS}[number]
    for name in part(alone, "run/state 0/model/"):
        if name.startswith(reached) and not any(never in name for never in NEVER_READ):
            assert name in expected, name


@pytest.mark.parametrize(("number", "idle"), [(1, ON_TEXTS + ON_PAIRS), (2, ON_IMAGES + ON_PAIRS)])
def test_idle_parameters_neither_decay_nor_count_the_step(
    together: tuple[str, int, Tensors], number: int, idle: tuple[str, ...]
) -> None:
    before, after = (part(together[2], f"run/state {n}/") for n in (number, number + 1))
    names = [n for n in before if n.removeprefix("model/").removeprefix("optim/").startswith(idle)]
    assert {name.partition("/")[0] for name in names} == {"model", "optim"}
    for name in names:
        assert torch.equal(before[name], after[name]), name
    appeared = {name.removeprefix("optim/") for name in after.keys() - before.keys()}
    assert appeared and not any(name.startswith(idle) for name in appeared)


def test_the_logit_scale_is_bounded_where_it_is_stored(together: tuple[str, int, Tensors]) -> None:
    name = "model/losses.gcl.logit_scale"
    start, first, *later = (
        together[2][f"run/state {n}/{name}"].item() for n in (0, 1, 2, 3, SAVED, STEPS)
    )
    bound = pytest.approx(strategy_cases.LARGEST_SCALE, abs=1e-6)
    assert (start, first) == (1.5, bound)
    assert all(scale <= first for scale in later)


def test_a_run_goes_on_bit_for_bit(together: tuple[str, int, Tensors]) -> None:
    tensors = together[2]
    found = part(tensors, "from itself/loss/")
    expected = losses_of(tensors, SAVED, SAVED + RESUMED)
    states = [part(tensors, p) for p in ("from itself/state/", f"run/state {SAVED + RESUMED}/")]
    for ours, theirs in ((found, expected), states):
        assert ours and ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name


def test_one_process_goes_on_from_it(together: tuple[str, int, Tensors]) -> None:
    tensors = together[2]
    saved = part(tensors, f"run/state {SAVED}/")
    found = strategy_cases.resumed(cases.ALONE, "none", saved)
    assert_near(part(found, "loss/"), losses_of(tensors, SAVED, SAVED + RESUMED), 1e-5)
    assert_near(part(found, "state/"), part(tensors, f"run/state {SAVED + RESUMED}/"), 3e-6)


def test_it_goes_on_from_one_process(alone: Tensors, together: tuple[str, int, Tensors]) -> None:
    found = part(together[2], "from none/")
    assert_near(part(found, "loss/"), losses_of(alone, SAVED, SAVED + RESUMED), 1e-5)
    expected = part(alone, f"run/state {SAVED + RESUMED}/")
    assert_near(part(found, "state/"), expected, 3e-6)


def test_bf16_runs_and_stays_near_fp32(together: tuple[str, int, Tensors]) -> None:
    rough = part(together[2], "bf16/")
    exact = losses_of(together[2], 0, 3)
    assert_near(rough, exact, 0.05)
    assert any(not tensor.equal(exact[name]) for name, tensor in rough.items())


def test_recomputing_activations_changes_nothing(
    alone: Tensors, together: tuple[str, int, Tensors]
) -> None:
    steps = strategy_cases.RECOMPUTED[together[1]]
    assert_near(part(together[2], "recomputed/"), losses_of(alone, 0, steps), 1e-5)
