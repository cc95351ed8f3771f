"""Other people's ViTs in our image encoder: the same states, or a refusal that names all."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_vit import LAYERS, PLACES, WIDTH, PlainVit, images, read_into_ours
from safetensors.torch import save_file
from torch import Tensor

from flava_plugin.model.weights_vit import read_vit

State = dict[str, Tensor]


def state_of(vit: PlainVit | None = None) -> State:
    return {
        name: value.detach().clone() for name, value in (vit or PlainVit()).state_dict().items()
    }


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def saved(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path, {"format": "pt"})
    else:
        torch.save(content, path)
    return path


def in_dinos_form(state: State) -> State:
    """As ``main_dino.py`` has it: the backbone beside the projection head."""
    head = {"head.mlp.0.weight": torch.ones(8, WIDTH), "head.last_layer.weight_g": torch.ones(9, 1)}
    plain = {name: value for name, value in state.items() if not name.startswith("head.")}
    return prefixed("module.backbone.", plain) | prefixed("module.", head)


def chunked(state: State) -> State:
    """As DINOv2's trainer writes it: blocks in chunks, and a mask token of two axes."""
    blocks = {name.replace("blocks.", "blocks.0.", 1): value for name, value in state.items()}
    whole = prefixed("backbone.", blocks | {"mask_token": torch.full((1, WIDTH), 0.5)})
    return whole | {"dino_head.mlp.0.weight": torch.ones(8, WIDTH)}


def refusal(path: Path, content: Any) -> str:
    with pytest.raises(ValueError, match=str(path)) as caught:
        read_vit(saved(path, content))
    return str(caught.value)


FORMS = {
    "timm": lambda state: state,
    "dino": lambda state: {
        "student": prefixed("module.backbone.", state_of(PlainVit(seed=7))),
        "teacher": in_dinos_form(state),
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_base", seed=0),
    },
    "dinov2": lambda state: {"teacher": chunked(state)},
}


@pytest.mark.parametrize(
    ("form", "ending"), [("timm", ".safetensors"), ("dino", ".pth"), ("dinov2", ".bin")]
)
@pytest.mark.parametrize(
    ("vit", "bound"),
    [
        (PlainVit(eps=1e-12), 1e-5),
        (PlainVit(eps=1e-12, bias=False), 1e-5),
        (PlainVit(eps=1e-12, scaled=True), 1e-5),
        (PlainVit(eps=1e-6), 1e-4),  # 3.9e-5 of it are the epsilon's
    ],
    ids=["plain", "without bias", "layer scale", "timm's epsilon"],
)
def test_states_are_those_of_the_vit(
    vit: PlainVit, bound: float, form: str, ending: str, tmp_path: Path
) -> None:
    if form == "dino" and not hasattr(torch.serialization, "safe_globals"):
        pytest.skip("this torch cannot admit the arguments in DINO's checkpoints")
    image = images()
    path = saved(tmp_path / f"w{ending}", FORMS[form](state_of(vit)))
    with torch.no_grad():
        found, wanted = read_into_ours(path)(image), vit(image)
    for ours, theirs in zip(found, wanted, strict=True):
        assert theirs.std() > 0.5
        assert (ours - theirs).abs().max() < bound


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    read = read_vit(saved(tmp_path / "timm.safetensors", state_of()))
    assert read.unused == ["head.bias", "head.weight"]
    assert read.source == (
        f"a ViT by timm's names, which are DINO's too: {LAYERS} layers of width {WIDTH}, patches "
        "of 8 pixels"
    )
    assert read.tensors["embeddings.position_embeddings"].shape == (1, PLACES, WIDTH)

    both = prefixed("student.backbone.", state_of(PlainVit(seed=7)))
    both |= prefixed("teacher.", chunked(state_of()))
    read = read_vit(saved(tmp_path / "dinov2.safetensors", both))
    assert torch.equal(read.tensors["embeddings.cls_token"], PlainVit().cls_token)
    assert read.tensors["embeddings.mask_token"].unique().tolist() == [0.5]
    assert "teacher.dino_head.mlp.0.weight" in read.unused
    assert "student.backbone.cls_token" in read.unused

    read = read_vit(saved(tmp_path / "student.pth", {"student": in_dinos_form(state_of())}))
    assert read.unused == ["module.head.last_layer.weight_g", "module.head.mlp.0.weight"]

    decoder = {"mask_token": torch.ones(1, 1, 16), "decoder_pos_embed": torch.ones(1, PLACES, 16)}
    decoder["decoder_blocks.0.norm1.weight"] = torch.ones(16)
    read = read_vit(saved(tmp_path / "mae.pth", {"model": state_of() | decoder}))
    assert "embeddings.mask_token" not in read.tensors
    assert set(decoder) < set(read.unused)


def test_a_layer_scale_is_folded_without_loss_of_precision(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in state_of(PlainVit(scaled=True)).items()}
    read = read_vit(saved(tmp_path / "w.safetensors", state))
    assert read.source.endswith(", layer scale folded in")
    for ours, theirs, scale in (
        ("attention.output", "attn.proj", "ls1"),
        ("feedforward.model.2", "mlp.fc2", "ls2"),
    ):
        gamma = state[f"blocks.1.{scale}.gamma"].float()
        weight, bias = (read.tensors[f"encoder.layer.1.{ours}.{x}"] for x in ("weight", "bias"))
        assert torch.equal(weight, gamma[:, None] * state[f"blocks.1.{theirs}.weight"].float())
        assert torch.equal(bias, gamma * state[f"blocks.1.{theirs}.bias"].float())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("reg_token", "register tokens"),
        ("register_tokens", "register tokens"),
        ("dist_token", "a distillation token"),
        ("head_dist.weight", "a distillation token"),
        ("blocks.1.mlp.w12.weight", "a gated MLP"),
        ("blocks.1.mlp.fc1_g.weight", "a gated MLP"),
        ("blocks.1.attn.relative_position_bias_table", "relative position biases"),
        ("rel_pos_bias.relative_position_bias_table", "relative position biases"),
        ("rope_embed.periods", "rotary positions"),
        ("blocks.1.attn.q_norm.weight", "a norm of queries and keys"),
        ("blocks.1.attn.norm.weight", "a norm inside a block's attention"),
        ("blocks.1.mlp.norm.weight", "a norm inside a block's attention"),
        ("norm_pre.weight", "a norm before the first block"),
        ("fc_norm.weight", "a norm after pooling"),
        ("attn_pool.latent", "attention pooling"),
        ("blocks.1.attns.0.proj.weight", "blocks with attention and MLP side by side"),
        ("blocks.1.in_proj.weight", "blocks with attention and MLP side by side"),
        ("patch_embed.backbone.stem.conv.weight", "more than one convolution"),
        ("patch_embed.norm.weight", "more than one convolution"),
        ("blocks.1.attn.q_bias", "is unknown"),
        ("blocks.01.norm1.weight", "is unknown"),
        ("something", "is unknown"),
        ("blocks.1.gamma_1", "is missing"),  # that of the other blocks
        ("blocks.7.norm1.weight", "lies beyond a gap"),
    ],
)
def test_what_our_encoder_does_not_compute_is_refused(name: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    text = refusal(path, state_of() | {name: torch.ones(WIDTH)})
    lines = [line for line in text.splitlines() if told in line]
    assert lines
    assert "is missing" in told or any(line.startswith(f"  {name}: {told}") for line in lines)
    assert "take a plain ViT" in text


def test_every_fault_is_in_one_error(tmp_path: Path) -> None:
    state = state_of()
    norms = {f"blocks.{n}.attn.k_norm.weight": torch.ones(8) for n in range(LAYERS)}
    state |= norms | {"reg_token": torch.ones(1, 4, WIDTH), "what.is.this": torch.ones(1)}
    state["pos_embed"] = state["pos_embed"][:, 1:].clone()
    state["blocks.0.attn.qkv.weight"] = torch.ones(70, WIDTH)
    state["blocks.1.attn.qkv.weight"] = torch.ones(3 * WIDTH, 8)
    state["blocks.2.attn.qkv.bias"] = torch.ones(3 * WIDTH, dtype=torch.int64)
    state["blocks.1.ls1.gamma"] = torch.ones(5)
    state["module.norm.weight"] = torch.ones(WIDTH)
    state["blocks.0.gamma_1"] = state["blocks.0.ls1.gamma"] = torch.ones(WIDTH)
    state["patch_embed.proj.weight"] = torch.ones(WIDTH, 4, 8, 8)
    for name in ("cls_token", "blocks.0.norm2.bias", "blocks.1.mlp.fc1.bias"):
        del state[name]
    text = refusal(tmp_path / "w.pt", state)
    named = [
        "blocks.{0..2}.attn.k_norm.weight: a norm of queries and keys",
        "reg_token: register tokens",
        "what.is.this: is unknown",
        "pos_embed: is of 16 places, a square, so none is the class token's",
        "blocks.0.attn.qkv.weight: is (70, 24), which does not cut into 3",
        "blocks.1.attn.qkv.weight: cut into its parts is (24, 8), and to fit the rest (24, 24)",
        "blocks.2.attn.qkv.bias: is a tensor of torch.int64",
        "blocks.1.ls1.gamma: is (5,), and to fit the rest (24,)",
        "blocks.2.ls1.gamma: is missing",
        "blocks.{0..2}.ls2.gamma: is missing",
        "module.norm.weight: is 'norm.weight' a second time",
        "blocks.0.ls1.gamma: is the same weight as blocks.0.gamma_1",
        "patch_embed.proj.weight: is (24, 4, 8, 8), and to fit the rest (24, 3, 8, 8)",
        "cls_token: is missing",
        "blocks.0.norm2.bias: is missing",
        "blocks.1.mlp.fc1.bias: is missing",
    ]
    assert [line for line in named if f"  {line}" not in text] == []
    assert text.count("\n  ") == len(named)
    assert "20 names do not fit" in text


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["bert.encoder.layer.0.attention.self.query.weight"], "is of a BERT, whose layers have"),
        (["encoder.layer.0.attention.self.query.weight"], "is of a BERT, whose layers have"),
        (["flava.image_model.embeddings.cls_token"], "is of a FLAVA or a CLIP, and not of a ViT"),
        (["backbone.image_encoder.layernorm.weight"], "a whole FLAVA starts a run as init.weights"),
        (["class_token", "conv_proj.weight"], "not the names of a ViT that is known here"),
        ([], "these are not the names of a ViT that is known here: none at all"),
    ],
)
def test_other_models_are_refused_by_name(names: list[str], told: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", {name: torch.ones(2) for name in names})
    with pytest.raises(ValueError, match=told) as caught:
        read_vit(path)
    assert all(name.removeprefix("backbone.") in str(caught.value) for name in names)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"w\.npz: is none of \.safetensors, \.pt, \.pth, \.bin"):
        read_vit(tmp_path / "w.npz")
    with pytest.raises(ValueError, match=r"w\.safetensors: no readable safetensors file"):
        read_vit(tmp_path / "w.safetensors")
    torch.save({"teacher": state_of(), "args": Path("x")}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt: refused\. A file of this kind can run code"):
        read_vit(tmp_path / "w.pt")
