"""Our CLIP encoders against torchmultimodal's CLIP on the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchmultimodal.models.clip.image_encoder import CLIPViTEncoder
from torchmultimodal.models.clip.text_encoder import CLIPTextEncoder

from flava_plugin.components.clip_encoders import ClipImage, ClipText
from flava_plugin.model.backbone import Backbone
from flava_plugin.types import Batch

WIDTH, HEADS, LAYERS, WORDS, LONGEST, PROJECTION = 32, 4, 3, 40, 12, 8
RENAMED = {
    "self_attn.out_proj": "attention.output",
    "linear1": "feedforward.model.0",
    "linear2": "feedforward.model.2",
    "norm1": "attention_layernorm",
    "norm2": "feedforward_layernorm",
}


def ours(theirs: nn.Module) -> dict[str, Tensor]:
    """torchmultimodal's weights by our names."""
    found: dict[str, Tensor] = {}
    for name, value in theirs.state_dict().items():
        if name.startswith("projection"):
            continue
        if ".self_attn.in_proj_" in name:
            layer, kind = name.replace("encoder.layers", "encoder.layer").split(
                ".self_attn.in_proj_"
            )
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{layer}.attention.{part}.{kind}"] = piece
            continue
        name = name.replace("encoder.layers", "encoder.layer")
        for old, new in RENAMED.items():
            name = name.replace(f".{old}.", f".{new}.")
        found[name] = value
    return found


@pytest.fixture(scope="module")
def peers() -> tuple[CLIPViTEncoder, CLIPTextEncoder, Backbone]:
    torch.manual_seed(0)
    image = CLIPViTEncoder(PROJECTION, 8, 24, WIDTH, HEADS, LAYERS)
    text = CLIPTextEncoder(PROJECTION, LONGEST, WORDS, WIDTH, 4 * WIDTH, HEADS, LAYERS)
    sizes = {"layers": LAYERS, "width": WIDTH, "heads": HEADS}
    backbone = Backbone(
        ClipImage(**sizes, image_size=24, patch_size=8),
        ClipText(WORDS, **sizes, max_positions=LONGEST),
        None,
        projection=PROJECTION,
    )
    backbone.image_encoder.load_state_dict(ours(image))
    backbone.text_encoder.load_state_dict(ours(text))
    with torch.no_grad():
        backbone.image_projection.weight.copy_(image.projection.T)
        backbone.text_projection.weight.copy_(text.projection.weight)
        for linear in (backbone.image_projection, backbone.text_projection):
            nn.init.zeros_(linear.bias)
    return image, text, backbone


def batch_of(lengths: list[int]) -> Batch:
    """Texts of these lengths, each with the largest id, CLIP's end of text, at its end."""
    dice = torch.Generator().manual_seed(1)
    ids = torch.randint(1, WORDS - 1, (len(lengths), max(lengths)), generator=dice)
    padding = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = ids * padding
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = WORDS - 1
    pictures = torch.randn(len(lengths), 3, 24, 24, generator=dice)
    return Batch("pair", image=pictures, text=ids, text_padding=padding)


@pytest.mark.parametrize("lengths", [[12, 12, 12], [12, 2, 7], [3, 3, 4]], ids=str)
def test_projections_and_gradients_are_torchmultimodal_s(
    peers: tuple[CLIPViTEncoder, CLIPTextEncoder, Backbone], lengths: list[int]
) -> None:
    image, text, backbone = peers
    batch = batch_of(lengths)
    assert batch.image is not None and batch.text is not None
    found = backbone(batch, frozenset({"image_projected", "text_projected"}))
    longer = torch.nn.functional.pad(batch.text, (0, LONGEST - batch.text.shape[1]))
    expected = image(batch.image), text(longer)
    for mine, other in zip((found.image_projected, found.text_projected), expected, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
    weight = backbone.text_encoder.token_embedding.weight  # type: ignore[union-attr]
    (mine,) = torch.autograd.grad(found.text_projected.square().sum(), [weight])
    (other,) = torch.autograd.grad(expected[1].square().sum(), [text.token_embedding.weight])
    assert other.abs().max() > 1e-3
    assert torch.allclose(mine, other, atol=1e-5 * float(other.abs().max()))


def test_every_state_is_torchmultimodal_s(
    peers: tuple[CLIPViTEncoder, CLIPTextEncoder, Backbone],
) -> None:
    """But that the end's stands first and the first one's at the end."""
    _, text, backbone = peers
    batch = batch_of([12, 5, 9])
    assert batch.text is not None and batch.text_padding is not None
    states = backbone(batch, frozenset({"text"})).text
    expected = text(batch.text, return_hidden_state=True)
    ends = batch.text_padding.sum(1) - 1
    rows = torch.arange(3)
    assert torch.allclose(states[:, 0], expected[rows, ends], atol=1e-5)
    assert torch.allclose(states[rows, ends], expected[:, 0], atol=1e-5)
    between = batch.text_padding.clone()
    between[:, 0] = between[rows, ends] = False
    assert torch.allclose(states[between], expected[between], atol=1e-5)
