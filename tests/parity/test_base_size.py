"""Both peers and ours at the published size: 768 wide, 12, 12 and 6 layers, 303 M weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peer_models import BASE, PEERS, batches
from side_by_side import Both, both, check, compare

from flava_plugin.model.weights import (
    from_hugging_face,
    from_torchmultimodal,
    to_hugging_face,
    to_torchmultimodal,
)

BATCHES = batches(BASE, rows=2)


@pytest.fixture(scope="module", params=PEERS)
def pair(request: pytest.FixtureRequest) -> Iterator[Both]:
    """One after the other, each with ours on the same memory: one copy of the weights is there."""
    yield both(request.param, BASE, share=True)


def test_features_and_six_losses(pair: Both, record_property: Any) -> None:
    found: dict[str, float] = {}
    for kind in ("image", "text padded", "pair padded"):
        for what, error in compare(pair, BATCHES[kind], backward=False).items():
            found[what] = max(error, found.get(what, 0.0))
    check(found, record_property)


@pytest.mark.soak
@pytest.mark.parametrize("kind", BATCHES)
def test_features_losses_and_gradients(pair: Both, kind: str, record_property: Any) -> None:
    check(compare(pair, BATCHES[kind], backward=True), record_property)


@pytest.mark.soak
def test_weights_go_round_bit_for_bit(pair: Both) -> None:
    state = pair.own.state_dict()
    for there, back in (
        (to_torchmultimodal, from_torchmultimodal),
        (to_hugging_face, from_hugging_face),
    ):
        again = back(there(state))
        assert again.keys() == state.keys()
        assert all(torch.equal(again[name], state[name]) for name in state)
