"""Both peers and ours at a tiny size, from converted weights: features, losses, all gradients."""

from __future__ import annotations

from typing import Any

import pytest
from peer_models import PEERS, Peer, batches
from side_by_side import both, check, compare

MATCHED = {f"{kind}, all matched": batch for kind, batch in batches(negatives=0).items()}
BATCHES = batches() | {kind: batch for kind, batch in MATCHED.items() if "pair" in kind}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("peer", PEERS)
def test_ours_is_the_peer(peer: Peer, kind: str, record_property: Any) -> None:
    check(compare(both(peer), BATCHES[kind], backward=True), record_property)
