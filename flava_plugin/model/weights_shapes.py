"""Every weight of a FLAVA by our name, its shape in symbols, and the sizes that a state has.

A shape is written in symbols (``image`` for the image encoder's width and so on), so that nothing
has to be known of a state beforehand: each symbol takes the size that most of its tensors have, and
the others are named as misshaped.

Legend for symbols: ``image``, ``text`` and ``fused`` are the encoders' widths, ``image.mlp`` and so
on those of their feed-forward blocks, ``patch`` pixels of a patch's side, ``places`` patches plus
[CLS], ``positions`` most tokens of a text, ``types`` token types, ``words`` and ``codes`` the
vocabularies, ``projection`` the width of the contrastive projections.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Shape = tuple[str | int, ...]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be of; smaller types need scales, which no name here holds."""

ENCODERS = {"image": "image_encoder", "text": "text_encoder", "fused": "mm_encoder"}
"""Width's symbol -> the encoder's name in the backbone."""

MASKED_HEADS = {
    "mlm": ("text", "words"),
    "mim": ("image", "codes"),
    "mmm_text": ("fused", "words"),
    "mmm_image": ("fused", "codes"),
}
"""Objective -> symbols of its width and its vocabulary."""

OBJECTIVES = (*MASKED_HEADS, "itm", "contrastive")
"""Objectives that have weights of their own outside the backbone, named as in ``flava_base``."""


@dataclass(frozen=True)
class EncoderSizes:
    """Sizes of an encoder.

    Attributes:
        layers: Transformer layers.
        width: Width D.
        mlp: Width of the feed-forward blocks.
    """

    layers: int
    width: int
    mlp: int


@dataclass(frozen=True)
class Sizes:
    """Sizes of a whole FLAVA; the number of attention heads leaves no trace in weights.

    Attributes:
        image: The image encoder.
        text: The text encoder.
        fused: The multimodal encoder.
        projection: Width E of the contrastive projections.
        image_size: Pixels of an image's side.
        patch_size: Pixels of a patch's side.
        words: Size of the word vocabulary.
        positions: Most tokens of a text.
        types: Token types.
        codes: Size of the codebook's vocabulary; 0 where no head predicts codes.
        objectives: Which of ``OBJECTIVES`` have weights.
    """

    image: EncoderSizes
    text: EncoderSizes
    fused: EncoderSizes
    projection: int
    image_size: int
    patch_size: int
    words: int
    positions: int
    types: int
    codes: int
    objectives: frozenset[str]


def shapes(layers: Mapping[str, int], objectives: Iterable[str]) -> dict[str, Shape]:
    """List the weights of a FLAVA.

    Args:
        layers: Number of layers by symbol of ``ENCODERS``.
        objectives: Whose weights to list besides the backbone.

    Returns:
        Shape by our name.
    """
    found: dict[str, Shape] = {}

    def linear(name: str, inputs: str, outputs: str | int) -> None:
        found[f"{name}.weight"] = (outputs, inputs)
        found[f"{name}.bias"] = (outputs,)

    def norm(name: str, width: str) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    for width, encoder in ENCODERS.items():
        for index in range(layers[width]):
            layer = f"backbone.{encoder}.encoder.layer.{index}"
            for part in ("query", "key", "value", "output"):
                linear(f"{layer}.attention.{part}", width, width)
            linear(f"{layer}.feedforward.model.0", width, f"{width}.mlp")
            linear(f"{layer}.feedforward.model.2", f"{width}.mlp", width)
            norm(f"{layer}.attention_layernorm", width)
            norm(f"{layer}.feedforward_layernorm", width)
        norm(f"backbone.{encoder}.layernorm", width)
        linear(f"backbone.{encoder}.pooler.dense", width, width)
    image, text = "backbone.image_encoder.embeddings", "backbone.text_encoder.embeddings"
    for token in (f"{image}.cls_token", f"{image}.mask_token"):
        found[token] = (1, 1, "image")
    found[f"{image}.position_embeddings"] = (1, "places", "image")
    found[f"{image}.patch_embeddings.projection.weight"] = ("image", 3, "patch", "patch")
    found[f"{image}.patch_embeddings.projection.bias"] = ("image",)
    found["backbone.mm_encoder.cls_token"] = (1, 1, "fused")
    found[f"{text}.word_embeddings.weight"] = ("words", "text")
    found[f"{text}.position_embeddings.weight"] = ("positions", "text")
    found[f"{text}.token_type_embeddings.weight"] = ("types", "text")
    norm(f"{text}.layer_norm", "text")
    for width in ("image", "text"):
        linear(f"backbone.{width}_projection", width, "projection")
        linear(f"backbone.{width}_to_mm_projection", width, "fused")
    for name, (width, vocabulary) in MASKED_HEADS.items():
        if name in objectives:
            linear(f"heads.{name}.cls.dense", width, width)
            norm(f"heads.{name}.cls.layer_norm", width)
            found[f"heads.{name}.cls.decoder.weight"] = (vocabulary, width)
            found[f"heads.{name}.cls.bias"] = (vocabulary,)
    if "itm" in objectives:
        linear("heads.itm.pooler.dense", "fused", "fused")
        linear("heads.itm.cls.seq_relationship", "fused", 2)
    if "contrastive" in objectives:
        found["losses.contrastive.logit_scale"] = ()
    return found


def objective_of(name: str) -> str | None:
    """Whose weight a name of ours is.

    Args:
        name: Our name.

    Returns:
        The objective; None for the backbone's.
    """
    kind, _, rest = name.partition(".")
    return rest.partition(".")[0] if kind in ("heads", "losses") else None


def count_layers(names: Iterable[str]) -> dict[str, int]:
    """Count each encoder's layers by the numbers that occur in names.

    Args:
        names: Our names.

    Returns:
        Number of layers by symbol of ``ENCODERS``, at least 1.
    """
    seen: dict[str, set[str]] = {encoder: set() for encoder in ENCODERS.values()}
    for name in names:
        match = re.match(r"backbone\.(\w+)\.encoder\.layer\.(\d+)\.", name)
        if match and match[1] in seen:
            seen[match[1]].add(match[2])
    return {width: max(1, len(seen[encoder])) for width, encoder in ENCODERS.items()}


def bind(state: Mapping[str, Tensor], known: Mapping[str, Shape]) -> dict[str, int]:
    """Give each symbol the size that most of its tensors have.

    Args:
        state: Tensors by our name.
        known: Shapes by our name.

    Returns:
        Size by symbol; a symbol without a tensor is left out.
    """
    votes: dict[str, Counter[int]] = {}
    for name, shape in known.items():
        if name in state and state[name].dim() == len(shape):
            for symbol, size in zip(shape, state[name].shape, strict=True):
                if isinstance(symbol, str):
                    votes.setdefault(symbol, Counter())[size] += 1
    return {symbol: count.most_common(1)[0][0] for symbol, count in votes.items()}


def misshaped(state: Mapping[str, Tensor], known: Mapping[str, Shape]) -> dict[str, str]:
    """Find tensors whose shape does not fit the others'.

    Args:
        state: Tensors by our name.
        known: Shapes by our name.

    Returns:
        What is wrong, by our name.
    """
    sizes = bind(state, known)
    faults = {}
    for name, shape in known.items():
        if name in state:
            wanted = tuple(sizes.get(part, 0) if isinstance(part, str) else part for part in shape)
            if tuple(state[name].shape) != wanted:
                faults[name] = f"is {tuple(state[name].shape)}, and to fit the rest {wanted}"
    positions = "backbone.image_encoder.embeddings.position_embeddings"
    if positions in state and positions not in faults:
        patches = state[positions].shape[1] - 1
        if patches < 1 or math.isqrt(patches) ** 2 != patches:
            faults[positions] = f"is of {patches} patches, which are no square"
    return faults


def sizes_of(state: Mapping[str, Tensor]) -> Sizes:
    """Read the sizes of a sound state (``weights.check``).

    Args:
        state: Tensors by our name.

    Returns:
        The sizes.
    """
    layers = count_layers(state)
    objectives = frozenset(filter(None, map(objective_of, state)))
    bound = bind(state, shapes(layers, objectives))
    encoders = {
        name: EncoderSizes(layers[name], bound[name], bound[f"{name}.mlp"]) for name in ENCODERS
    }
    return Sizes(
        **encoders,
        projection=bound["projection"],
        image_size=math.isqrt(bound["places"] - 1) * bound["patch"],
        patch_size=bound["patch"],
        words=bound["words"],
        positions=bound["positions"],
        types=bound["types"],
        codes=bound.get("codes", 0),
        objectives=objectives,
    )


def no_tensor(value: Any) -> str | None:
    """Say what is wrong with a value that is to be a weight.

    Args:
        value: What a state holds.

    Returns:
        The fault, or None where it is a dense tensor of one of ``DTYPES``.
    """
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    if value.dtype not in DTYPES or value.layout != torch.strided:
        return (
            f"is a tensor of {value.dtype} ({value.layout}), and not a dense one of float16, "
            "bfloat16, float32 or float64"
        )
    return None
