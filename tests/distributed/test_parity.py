"""Ranks and accumulation change nothing: losses, gradients, weights, optimiser state."""

from __future__ import annotations

import cases
import pytest
import ranks
import shared_batches
import torch
from torch import Tensor

from flava_plugin.train.sharding.whole import full_state, load_full_state, load_optimizer_state

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def alone() -> Tensors:
    return cases.parity(cases.ALONE)


@pytest.fixture(scope="module", params=[2, 4])
def every_rank(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Tensors]:
    return ranks.run("cases.everything", request.param, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def together(every_rank: list[Tensors]) -> Tensors:
    return every_rank[0]


def part(tensors: Tensors, prefix: str) -> Tensors:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-5, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


def kinds(tensors: Tensors) -> set[str]:
    return {name.partition("/")[0] for name in tensors}


def test_accumulation_changes_nothing(alone: Tensors) -> None:
    for case in ("gradients/", "idle/"):
        tensors = part(alone, case)
        for kind in kinds(tensors):
            once = part(tensors, f"{kind}/1/")
            assert once
            for accumulation in sorted(kinds(part(tensors, f"{kind}/")) - {"1"}):
                assert_same(part(tensors, f"{kind}/{accumulation}/"), once)
    weights = part(alone, "descent/")
    assert_same(part(weights, "2/"), part(weights, "1/"))
    assert_same(part(weights, "4/"), part(weights, "1/"))


@pytest.mark.parametrize("case", ["gradients/", "descent/", "adamw/", "idle/"])
def test_ranks_change_nothing(alone: Tensors, together: Tensors, case: str) -> None:
    assert_same(part(together, case), part(alone, case))


def test_averaging_by_hand_is_what_ddp_does(alone: Tensors, together: Tensors) -> None:
    found = part(together, "by hand/")
    assert_same(part(found, "idle/"), part(alone, "idle/"))
    gradients = {name: t for name, t in found.items() if not name.startswith("idle/")}
    assert_same(gradients, part(alone, "gradients/"))


def test_recomputing_changes_nothing(alone: Tensors, together: Tensors) -> None:
    for accumulation in (1, 4):
        expected = part(alone, f"gradients/pair, uneven/{accumulation}/")
        del expected["norm"]
        for tensors in (alone, together):
            assert_same(part(tensors, f"recomputed/{accumulation}/"), expected)


def test_the_reference_is_no_row_of_zeros(alone: Tensors) -> None:
    for kind in ("pair, all", "pair, uneven", "image", "text"):
        tensors = part(alone, f"gradients/{kind}/1/")
        assert all(tensor.isfinite().all() for tensor in tensors.values())
        assert tensors["norm"] > 0.1
        assert all(loss > 0 for loss in part(tensors, "loss ").values())
    scale = alone["gradients/pair, uneven/4/losses.gcl.logit_scale"]
    assert scale.abs() > 1e-3


def test_without_positives_terms_are_zero_and_itm_still_learns(alone: Tensors) -> None:
    tensors = part(alone, "gradients/pair, none/4/")
    losses = part(tensors, "loss ")
    assert {name: loss.item() for name, loss in losses.items() if name != "itm"} == {
        "gcl": 0.0,
        "mmm_text": 0.0,
        "mmm_image": 0.0,
    }
    assert losses["itm"] > 0
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert tensors["heads.itm.cls.seq_relationship.weight"].abs().max() > 0


def assert_idle_is_untouched(tensors: Tensors) -> None:
    steps = [part(tensors, f"adamw/{number}/") for number in range(4)]
    on_images = ("backbone.text_encoder.", "backbone.mm_encoder.", "heads.itm.", "losses.")
    on_texts = ("backbone.image_encoder.", "backbone.mm_encoder.", "heads.mim.", "losses.")
    for number, idle in ((1, on_images), (2, on_texts)):
        before, after = steps[number - 1], steps[number]
        for name, tensor in before.items():
            if name.removeprefix("optim/").startswith(idle):
                assert torch.equal(tensor, after[name]), name
        busy = "backbone.image_encoder." if number == 1 else "backbone.text_encoder."
        assert any(n.startswith(busy) and not t.equal(after[n]) for n, t in before.items())


def test_idle_parameters_neither_decay_nor_drift(alone: Tensors) -> None:
    assert_idle_is_untouched(alone)


def test_idle_parameters_neither_decay_nor_drift_on_ranks(together: Tensors) -> None:
    assert_idle_is_untouched(together)


def test_state_of_many_ranks_goes_on_in_one_process(together: Tensors) -> None:
    learner, strategy = cases.prepare(cases.ALONE)
    load_full_state(strategy, part(together, "saved/"))
    optim: dict[str, Tensors] = {}
    for name, tensor in part(together, "saved optim/").items():
        parameter, _, kind = name.partition("/")
        optim.setdefault(parameter, {})[kind] = tensor
    load_optimizer_state(strategy, optim)
    whole = shared_batches.batch("pair", cases.ROWS, cases.POSITIVES["uneven"])
    cases.step(cases.ALONE, learner, strategy, whole, 4)
    strategy.step()
    assert_same(full_state(strategy), part(together, "next/"))


def test_names_are_the_learners_own(together: Tensors) -> None:
    assert part(together, "saved/").keys() == shared_batches.learner().state_dict().keys()


def test_replicas_are_the_same_to_the_last_bit(every_rank: list[Tensors]) -> None:
    first, *others = every_rank
    for other in others:
        names = {name for name in other if not name.startswith("collectives/")}
        for case in ("gradients/", "descent/4/replica/", "adamw/3/replica/", "by hand/"):
            assert any(name.startswith(case) for name in names), case
        for name in names:
            assert torch.equal(first[name], other[name]), name


def test_collectives_with_unequal_rows(every_rank: list[Tensors]) -> None:
    size = len(every_rank)
    rows = [rank for rank in range(size) for _ in range(rank)]
    asked = sum(range(size + 1))  # rank r asks for row i of all i * (r + 1) times
    for rank, tensors in enumerate(every_rank):
        found = part(tensors, "collectives/")
        assert found["everything"].tolist() == [[row, row] for row in rows]
        own = [asked * i for i, row in enumerate(rows) if row == rank]
        assert found["gradient"].tolist() == [[value, value] for value in own]
        assert (found["total"].item(), found["untouched"].item()) == (size, 1)
        assert found["flags"].tolist() == [True, False]
        others = list(range(1, size))
        message = bytes(found["message"].tolist()).decode()
        assert message.startswith(f"the recipe of rank 0 is not that of ranks {others}: start")


def test_both_passes_drop_the_same() -> None:
    """Else the cached gradients would belong to embeddings that never were."""
    learner, strategy = cases.prepare(cases.ALONE, dropout=0.3)
    seen: list[Tensor] = []
    learner.register_forward_hook(
        lambda _, __, out: seen.append(torch.cat([out["gcl.image"], out["gcl.text"]]).detach())
    )
    cases.step(cases.ALONE, learner, strategy, shared_batches.batch("pair", cases.ROWS), 2)
    first, second, first_again, second_again = seen
    torch.testing.assert_close(first_again, first)
    torch.testing.assert_close(second_again, second)
