"""Our registered heads and losses, and an outsider's, on torchmultimodal's own model."""

from __future__ import annotations

import pytest
import torch
from peer_models import TINY, batches, torchmultimodal
from side_by_side import run_torchmultimodal
from tiny_flava import objective_sections
from torch import Tensor, nn
from torchmultimodal.models.flava.model import FLAVAForPreTraining

from flava_plugin import heads, losses
from flava_plugin.model.stand_in import stand_in
from flava_plugin.model.weights import from_torchmultimodal
from flava_plugin.types import Batch, Features, Widths

BATCHES = batches()
WIDTHS = Widths(32, 32, 32, 32, words=TINY.words, codes=TINY.codes, patches=16)


def registered_losses(whole: FLAVAForPreTraining, batch: Batch) -> dict[str, Tensor]:
    """Our registered heads and losses, with upstream's weights, on upstream's features."""
    output = whole.model(batch.image, batch.text, batch.patch_mask, batch.text_masked)
    features = Features.from_torchmultimodal(output)
    state = from_torchmultimodal(whole.state_dict())
    found = {}
    for name, objective in objective_sections().items():
        if objective.modality != batch.modality:
            continue
        head = heads.build(objective.head.type, WIDTHS, **objective.head.options)
        loss = losses.build(objective.loss.type, **objective.loss.options)
        for part, kind in ((head, "heads"), (loss, "losses")):
            own = {n.removeprefix(f"{kind}.{name}."): v for n, v in state.items()
                   if n.startswith(f"{kind}.{name}.")}  # fmt: skip
            if own:
                part.load_state_dict(own)
        found[name] = loss(head(features, batch), batch).mean()
    return found


@pytest.mark.parametrize("kind", BATCHES)
def test_our_heads_and_losses_run_on_upstreams_model(kind: str) -> None:
    theirs, batch = torchmultimodal(), BATCHES[kind]
    expected = run_torchmultimodal(theirs, batch)[1]
    found = registered_losses(theirs, batch)
    assert found.keys() == expected.keys()
    for name in expected:
        assert abs(found[name] - expected[name]) <= 1e-6, name


def test_features_of_unmasked_inputs_are_upstreams_unmasked_ones() -> None:
    theirs, batch = torchmultimodal().model, BATCHES["pair"]
    output = theirs(batch.image, batch.text, skip_unmasked_mm_encoder=False)
    features = Features.from_torchmultimodal(output)
    assert features.fused is output.multimodal.last_hidden_state
    assert features.text_masked is None and features.image_projected is not None
    empty = Features.from_torchmultimodal(type(output)(*[None] * 8))
    assert empty == Features()


class OutsideHead(nn.Module):
    """As a package of somebody else would have it."""

    needs = frozenset({"fused"})

    def __init__(self, widths: Widths, /) -> None:
        super().__init__()
        self.linear = nn.Linear(widths.fused, 3)

    def forward(self, features: Features, batch: Batch) -> Tensor:
        assert features.fused is not None
        return self.linear(features.fused[:, 0])


@pytest.mark.parametrize("backbone", ["theirs", "stand-in"])
def test_an_outside_head_fine_tunes_upstreams_model(backbone: str) -> None:
    model = torchmultimodal().model
    model = stand_in(model) if backbone == "stand-in" else model
    pair = BATCHES["pair padded"]
    batch = Batch(
        "pair", image=pair.image, text=pair.text, extra={"answer": torch.tensor([0, 1, 2, 1])}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = OutsideHead(WIDTHS)
    loss = losses.build("class_ce", target="answer")
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-3)
    seen = []
    for _ in range(5):
        output = model(batch.image, batch.text, skip_unmasked_mm_encoder=False)
        value = loss(head(Features.from_torchmultimodal(output), batch), batch).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seen.append(value.item())
    assert seen == sorted(seen, reverse=True) and seen[-1] < 0.8 * seen[0]
