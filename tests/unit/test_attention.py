from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flava_plugin.model.attention import EncoderLayer, EncoderStack
from flava_plugin.model.layout import Layout

GENERATOR = torch.Generator().manual_seed(0)
STATES = torch.randn(2, 6, 16, generator=GENERATOR)
PADDING = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])


def test_attention_weights_are_what_the_layer_uses() -> None:
    layer = EncoderLayer(16, heads=2, mlp=32)
    layout = Layout(2, 6, None, PADDING)
    tokens = layout.pack(STATES)
    weights = layer.attention_weights(tokens, layout)
    assert weights.shape == (2, 2, 6, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 6))
    assert (weights[1, :, :, 4:] == 0).all()
    attention, normed = layer.attention, layer.attention_layernorm(STATES)
    value = attention.value(normed).view(2, 6, 2, 8).transpose(1, 2)
    by_hand = attention.output((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layout.unpack(attention(layout.pack(normed), layout)), by_hand)


def test_padding_reaches_no_real_position() -> None:
    stack = EncoderStack(2, 16, heads=2)
    changed = STATES.clone()
    changed[1, 4:] = 100.0
    before, after = stack(STATES, PADDING).padded(), stack(changed, PADDING).padded()
    torch.testing.assert_close(before[1, :4], after[1, :4])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_activations_give_the_same_gradients(dropout: float) -> None:
    stack = EncoderStack(2, 16, heads=2, dropout=dropout)

    def gradients(recompute: bool) -> list[Tensor]:
        stack.recompute_every = int(recompute)
        stack.zero_grad()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            stack(STATES, PADDING).values.square().sum().backward()
        return [parameter.grad.clone() for parameter in stack.parameters()]

    for plain, recomputed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_names_do_not_depend_on_dropout() -> None:
    assert EncoderLayer(16, 2, 32).state_dict().keys() == (
        EncoderLayer(16, 2, 32, dropout=0.1).state_dict().keys()
    )


def test_dropout_only_in_training() -> None:
    layer = EncoderLayer(16, 2, 32, dropout=0.5).eval()
    layout, tokens = Layout(2, 6), STATES.flatten(0, 1)
    assert torch.equal(layer(tokens, layout), layer(tokens, layout))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 16 is not a multiple of 3 attention heads"):
        EncoderLayer(16, heads=3, mlp=32)
