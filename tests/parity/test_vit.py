"""Hugging Face's ViTs as their own models compute them and as our image encoder does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_vit import HEADS, LAYERS, PATCH, PLACES, SIZE, WIDTH, images, read_into_ours
from torch import Tensor

from flava_plugin.model.weights_vit import read_vit

transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's ViTs")

SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "image_size": SIZE,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-12,  # ours; see weights_vit.py for what another one does
}
MLP = {"intermediate_size": 4 * WIDTH}
DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
    "mask_ratio": 0.0,
}


def built(kind: str, **options: Any) -> Any:
    """A model of theirs, away from its first weights, or tokens and norms prove nothing."""
    config = getattr(transformers, f"{kind.removesuffix('Model')}Config")
    with torch.random.fork_rng(devices=[]):
        model = getattr(transformers, kind)(config(**SIZES, **options)).eval()
    generator = torch.Generator().manual_seed(2)
    for name, value in model.named_parameters():
        if "position" not in name or value.requires_grad:
            value.data += 0.2 * torch.randn(value.shape, generator=generator)
    return model


@pytest.mark.parametrize("written", ["save_pretrained", "torch.save"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ViTModel", MLP),
        ("ViTModel", MLP | {"qkv_bias": False}),
        ("ViTMSNModel", MLP),
        ("ViTMAEModel", MLP | DECODER),
        ("Dinov2Model", {"layerscale_value": 0.7}),
    ],
)
def test_states_are_those_of_hugging_face(
    kind: str, options: dict[str, Any], written: str, tmp_path: Path
) -> None:
    model, path = built(kind, **options), tmp_path / "model.safetensors"
    if written == "save_pretrained":
        model.save_pretrained(tmp_path)
    else:
        path = tmp_path / "model.bin"
        torch.save(model.state_dict(), path)
    encoder = read_into_ours(path)
    with torch.no_grad():
        noise = {"noise": torch.arange(PLACES - 1.0).expand(4, -1)} if kind == "ViTMAEModel" else {}
        theirs = model(images(), **noise).last_hidden_state
        _, ours = encoder(images())
        assert theirs.std() > 0.5
        assert (ours - theirs).abs().max() < 1e-5
        if kind == "ViTModel":
            pooled = model(images()).pooler_output
            assert (encoder.pooler(ours) - pooled).abs().max() < 1e-5


def test_a_mask_token_stands_in_for_the_same_patches(tmp_path: Path) -> None:
    model = built("Dinov2Model")
    model.save_pretrained(tmp_path)
    mask: Tensor = torch.arange(PLACES - 1).remainder(3).eq(0).expand(len(images()), -1)
    encoder = read_into_ours(tmp_path / "model.safetensors")
    with torch.no_grad():
        theirs = model(images(), bool_masked_pos=mask).last_hidden_state
        _, ours = encoder(images(), mask)
        clean = encoder(images())[1]
    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - clean).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("DeiTModel", MLP, "embeddings.distillation_token: a distillation token"),
        ("Dinov2WithRegistersModel", {}, "embeddings.register_tokens: register tokens"),
        (
            "Dinov2Model",
            {"use_swiglu_ffn": True},
            r"encoder.layer.\{0\.\.2\}.mlp.weights_in.weight: a gated MLP",
        ),
        (
            "BeitModel",
            MLP | {"use_relative_position_bias": True},
            r"encoder.layer.\{0\.\.2\}.attention.attention.relative_position_bias.*: relative",
        ),
    ],
)
def test_other_models_of_theirs_are_refused(
    kind: str, options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    built(kind, **options).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=told):
        read_vit(tmp_path / "model.safetensors")


def test_heads_are_left_out(tmp_path: Path) -> None:
    config = transformers.ViTConfig(**SIZES, **MLP)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    read = read_vit(tmp_path / "model.safetensors")
    assert read.unused == ["classifier.bias", "classifier.weight"]
    assert read.source.startswith("a ViT by Hugging Face's names: 3 layers of width 24")
