"""Attention weights and hidden states: none unless asked for, the right ones when asked."""

from __future__ import annotations

import torch
from tiny_flava import PATCHES, WIDTH, pair_batch, tiny_learner
from torch import Tensor

from flava_plugin.model.backbone import fields_of
from flava_plugin.model.inspection import inspect_layers

BATCH = pair_batch(padded=True)
LAYERS = {
    *(f"{part}_encoder.encoder.layer.{number}" for part in ("image", "text") for number in (0, 1)),
    "mm_encoder.encoder.layer.0",
}


def test_a_forward_keeps_no_attention_weights() -> None:
    backbone = tiny_learner().backbone
    kept: list[torch.Size] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = backbone(BATCH, fields_of(BATCH))
    assert features.fused is not None
    lengths = {1 + PATCHES, BATCH.text.shape[1], features.fused.shape[1]}  # type: ignore[union-attr]
    assert any(shape[-1:] == (WIDTH,) for shape in kept), "the graph was watched"
    # (B, 1, 1, L) is the mask; a matrix of weights has L columns in each of L lines.
    assert not [s for s in kept if len(s) > 2 and s[-1] in lengths and s[-2] == s[-1]]


def test_every_layer_is_recorded_when_asked() -> None:
    backbone = tiny_learner().backbone
    with inspect_layers(backbone) as record:
        found = backbone(BATCH, frozenset({"fused"})).fused
    assert record.states.keys() == record.weights.keys() == LAYERS
    last = record.states["mm_encoder.encoder.layer.0"][0]
    torch.testing.assert_close(backbone.mm_encoder.layernorm(last), found)
    assert not last.requires_grad
    weights = record.weights["mm_encoder.encoder.layer.0"][0]
    length = last.shape[1]
    assert weights.shape == (len(BATCH), 4, length, length)
    assert BATCH.text_padding is not None
    padding = torch.cat([torch.ones(len(BATCH), 2 + PATCHES).bool(), BATCH.text_padding], dim=1)
    sums, computed = weights.sum(-1).transpose(1, 2), weights.transpose(1, 2)[padding]
    torch.testing.assert_close(sums[padding], torch.ones(len(computed), 4))
    attended = weights.permute(0, 3, 1, 2)
    assert not attended[~padding].any(), "nothing attends to padding"
    assert (attended[padding].sum(-1) > 0).all()


def test_nothing_is_recorded_afterwards() -> None:
    backbone = tiny_learner().backbone
    with inspect_layers(backbone) as record:
        pass
    backbone(BATCH, frozenset({"fused"}))
    assert record.states == record.weights == {}
