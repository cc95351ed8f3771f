from __future__ import annotations

import pytest
import torch

from flava_plugin.components.clip_encoders import ClipImage, ClipText, swapped_ends
from flava_plugin.model.execution import set_execution
from flava_plugin.model.inspection import inspect_layers


def text_encoder() -> ClipText:
    torch.manual_seed(0)
    return ClipText(30, layers=2, width=16, heads=2, max_positions=10)


IDS = torch.randint(1, 30, (3, 10), generator=torch.Generator().manual_seed(2))
PADDING = torch.arange(10) < torch.tensor([10, 2, 6])[:, None]


def test_ends_change_places_and_twice_is_nothing() -> None:
    places = swapped_ends(IDS, PADDING)
    assert places[:, 0].tolist() == [9, 1, 5] and places[1, :2].tolist() == [1, 0]
    assert torch.equal(places.gather(1, places), torch.arange(10).expand(3, -1))
    alone = torch.tensor([[True] + [False] * 9])
    assert torch.equal(swapped_ends(IDS[:1], alone), torch.arange(10)[None])


def test_no_state_depends_on_what_stands_behind_it() -> None:
    encoder = text_encoder()
    other = IDS.clone()
    other[:, 4:] = (other[:, 4:] % 28) + 1
    assert not torch.equal(other, IDS)
    states, changed = (encoder(ids, None)[1] for ids in (IDS, other))
    assert torch.allclose(states[:, 1:4], changed[:, 1:4], atol=1e-6)
    assert not torch.allclose(states[:, 0], changed[:, 0], atol=1e-3)


@pytest.mark.parametrize("kernel", ["fused", "plain"])
def test_what_is_read_does_not_depend_on_how_much_is(kernel: str) -> None:
    encoder = text_encoder()
    set_execution(encoder, attention=kernel)  # type: ignore[arg-type]
    whole = encoder(IDS, PADDING)[1]
    read = torch.zeros_like(PADDING)
    read[:, 0] = read[0, 3] = read[2, 5] = True
    some = encoder(IDS, PADDING, read)[1]
    assert torch.allclose(some[read], whole[read], atol=1e-6)
    assert some[~read & PADDING].isnan().all()
    encoder.encoder.may_pack = False
    assert torch.allclose(encoder(IDS, PADDING)[1][PADDING], whole[PADDING], atol=1e-6)


def test_recomputed_layers_give_the_same_gradients() -> None:
    encoder = text_encoder()
    found = []
    for every in (False, True):
        set_execution(encoder, activation_checkpointing=every)
        encoder.zero_grad()
        encoder(IDS, PADDING)[1][:, 0].square().sum().backward()
        found.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert found[0] and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_attention_weights_look_at_nothing_ahead() -> None:
    encoder = text_encoder()
    with inspect_layers(encoder) as kept, torch.no_grad():
        encoder(IDS, None)
    weights = kept.weights["encoder.layer.0"][0]
    assert torch.equal(weights, weights.tril())
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2, 10))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"11 tokens is longer than .*max_positions 10"):
        text_encoder()(torch.ones(1, 11, dtype=torch.long))
    with pytest.raises(ValueError, match="image_size 20 is not a multiple of patch_size 8"):
        ClipImage(layers=1, width=16, heads=2, image_size=20, patch_size=8)
    encoder = ClipImage(layers=1, width=16, heads=2, image_size=16, patch_size=8)
    with pytest.raises(ValueError, match="12 x 16 pixels does not divide into patches of 8"):
        encoder(torch.zeros(1, 3, 12, 16))
    with pytest.raises(ValueError, match="ClipImage has no mask token"):
        encoder(torch.zeros(1, 3, 16, 16), torch.ones(1, 4, dtype=torch.bool))
    assert encoder(torch.zeros(1, 3, 16, 24))[1].shape == (1, 1 + 6, 16)  # positions are resized
