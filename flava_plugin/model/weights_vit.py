"""Files of ViTs that others trained, read for our image encoder.

FLAVA's paper starts its image encoder from a ViT-B/16 that DINO trained on ImageNet-1k. A ViT by
timm's, DINO's, DINOv2's or Hugging Face's names is that encoder under other names, and computes the
same but for what a file of weights does not say:

- **Epsilon of the layer norms.** 1e-6 in timm, DINO and DINOv2; 1e-12 in our encoders, as in both
  public FLAVAs, and no recipe option. In a random ViT-B/16 (12 layers, 224 pixels, float32) this
  moves the states after the final norm, whose deviation is 1, by 2.1e-5 at most (root mean square
  1.2e-6) where weights have deviation 0.05, tokens and positions 0.2; and by 1.1e-3 at most, at
  [CLS] (root mean square 2.2e-5), with first weights of 0.02, where [CLS] starts with variance
  8e-4. bfloat16 rounds by 3.9e-3.
- **GELU.** Exact here, in timm's plain ViTs, DINO, DINOv2 and Hugging Face's ViTs. A file whose
  model was built with tanh's approximation reads alike, and is off by 1.2e-3 at most in that ViT.
- **Attention heads.** ``model.image_encoder.heads`` must be the file's. The usual ViTs up to L
  have width / 64: 12 for ViT-B.
- **Pixels.** DINO and DINOv2 normalise with ImageNet's mean (0.485, 0.456, 0.406) and deviation
  (0.229, 0.224, 0.225); ``data.image.mean`` and ``std`` are FLAVA's own where a recipe is silent.
- **Order in a block.** timm's few ``ResPostBlock`` models (``*_rpn_*``) norm behind attention under
  the same names; none has a class token, so none gets through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flava_plugin.model.weights_file import PICKLED, read_pickled, read_safetensors
from flava_plugin.model.weights_shapes import (
    ENCODERS,
    count_layers,
    misshaped,
    no_tensor,
    shapes,
)
from flava_plugin.model.weights_vit_names import SCALE, UNUSED, VitNaming, bare, naming_of, reason

OURS = "backbone.image_encoder."
POSITIONS, MASK_TOKEN = f"{OURS}embeddings.position_embeddings", f"{OURS}embeddings.mask_token"
PROJECTION = f"{OURS}embeddings.patch_embeddings.projection.weight"

OPTIONAL = (MASK_TOKEN, f"{OURS}pooler.")
"""What a ViT may lack: no plain one has a mask token, and FLAVA's objectives read no pooler."""

SCALED = ("attention.output", "feedforward.model.2")
LINEAR = ("attention.query", "attention.key", "attention.value", *SCALED, "feedforward.model.0")
"""Linear layers of a block; where no block has one's bias, that bias is 0."""


@dataclass(frozen=True)
class ViT:
    """A ViT's weights for our image encoder.

    Attributes:
        tensors: By the names of our image encoder, on the CPU. ``embeddings.mask_token`` and
            ``pooler.dense`` are there only where the file has them, and the number of positions is
            the file's.
        unused: Names in the file that are left there: heads, decoders, a student beside its
            teacher.
        source: What was read, for a log.
    """

    tensors: dict[str, Tensor]
    unused: list[str]
    source: str


def read_vit(path: Path) -> ViT:
    """Read a ViT by timm's, DINO's, DINOv2's or Hugging Face's names.

    Three things are changed, each exactly. A block's ``qkv`` is cut into query, key and value. A
    layer scale multiplies the output of ``attn.proj`` or ``mlp.fc2``, so it is multiplied into that
    layer's weight and bias, in float32 at least. A bias that no block has (``qkv_bias=False``)
    becomes 0. A mask token is taken where it stands in for patches of this encoder, as DINOv2's
    does, and left where it is a masked autoencoder's, whose decoder reads it.

    Args:
        path: A ``.safetensors``, ``.pt``, ``.pth`` or ``.bin`` file; of one with a teacher and a
            student the teacher is taken.

    Returns:
        The weights.

    Raises:
        ValueError: It cannot be read, is of no ViT that is known here, or holds anything that our
            image encoder does not compute: all such names are listed.
    """
    if path.suffix not in (*PICKLED, ".safetensors"):
        raise ValueError(f"{path}: is none of .safetensors, {', '.join(PICKLED)}")
    given = read_pickled(path) if path.suffix in PICKLED else read_safetensors(path)[0]
    try:
        return _translate(given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _translate(given: Mapping[str, Tensor]) -> ViT:
    names, unused = bare(given)
    naming = naming_of(names)
    decodes = any(name.startswith("decoder_") for name in names)
    taken: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name, (first, *others) in names.items():
        ours = [OURS + part for part in naming.ours(name)]
        faults |= dict.fromkeys(others, f"is '{name}' a second time")
        if (name == "mask_token" and decodes) or (not ours and UNUSED.fullmatch(name)):
            unused.append(first)
        elif not ours:
            faults[first] = reason(name)
        elif fault := no_tensor(given[first]) or _not_cut(given[first], len(ours)):
            faults[first] = fault
            origin |= dict.fromkeys(ours, first)
        else:
            for part, value in zip(ours, given[first].chunk(len(ours)), strict=True):
                if part in origin:
                    faults[first] = f"is the same weight as {origin[part]}"
                taken[part], origin[part] = value, first
    token = taken.get(MASK_TOKEN)
    if token is not None and token.dim() == 2:  # DINOv2's is (1, D)
        taken[MASK_TOKEN] = token[None]
    layers = count_layers(origin)["image"]
    taken |= _zero_biases(taken, origin, layers)
    faults = _misfits(taken, origin, naming, layers) | faults
    if faults:
        raise ValueError(
            f"{len(faults)} names do not fit FLAVA's image encoder, a pre-norm ViT with a class "
            f"token and learned positions:\n{_listed(faults)}\ntake a plain ViT, such as DINO's "
            "dino_vitbase16_pretrain.pth or timm's vit_base_patch16_224, or give this one's model "
            "as an image encoder of your own"
        )
    folded = _fold(taken)
    width, _, patch, _ = taken[PROJECTION].shape
    source = f"a ViT by {naming.title}: {layers} layers of width {width}, patches of {patch} pixels"
    tensors = {name.removeprefix(OURS): value for name, value in taken.items()}
    return ViT(tensors, sorted(unused), source + (", layer scale folded in" if folded else ""))


def _not_cut(value: Tensor, parts: int) -> str | None:
    if value.dim() and len(value) % parts == 0:
        return None
    return f"is {tuple(value.shape)}, which does not cut into {parts}"


def _zero_biases(
    taken: Mapping[str, Tensor], named: Iterable[str], layers: int
) -> dict[str, Tensor]:
    """Biases of linear layers that have one in no block."""
    zeros: dict[str, Tensor] = {}
    for stem in LINEAR:
        stems = [f"{OURS}encoder.layer.{number}.{stem}" for number in range(layers)]
        if not any(f"{name}.bias" in named for name in stems):
            weights = {name: taken.get(f"{name}.weight") for name in stems}
            zeros |= {f"{n}.bias": w.new_zeros(len(w)) for n, w in weights.items() if w is not None}
    return zeros


def _misfits(
    taken: Mapping[str, Tensor], origin: Mapping[str, str], naming: VitNaming, layers: int
) -> dict[str, str]:
    """What is missing, misshaped or beyond a gap, by the file's names."""
    every = shapes(dict.fromkeys(ENCODERS, layers), ())
    known = {name: shape for name, shape in every.items() if name.startswith(OURS)}
    if any(name.endswith(f".{SCALE}") for name in origin):
        for number in range(layers):
            layer = f"{OURS}encoder.layer.{number}"
            known |= {f"{layer}.{stem}.{SCALE}": ("image",) for stem in SCALED}
    faults = {}
    for name in known.keys() - taken.keys() - origin.keys():
        if not name.startswith(OPTIONAL):
            faults[naming.theirs(name.removeprefix(OURS))] = "is missing"
    for name in taken.keys() - known.keys():
        faults[origin[name]] = "lies beyond a gap in the blocks"
    for name, fault in misshaped(taken, known).items():
        if name in origin:  # a bias that was filled in is as its weight
            cut = list(origin.values()).count(origin[name]) > 1
            told = _without_class(name, taken[name]) or fault
            faults[origin[name]] = f"cut into its parts {told}" if cut else told
    return faults


def _without_class(name: str, value: Tensor) -> str | None:
    """Say of position embeddings that they have none of [CLS]: their number is a square."""
    if name != POSITIONS or value.dim() != 3 or math.isqrt(value.shape[1]) ** 2 != value.shape[1]:
        return None
    return (
        f"is of {value.shape[1]} places, a square, so none is the class token's, as in DeiT III "
        "and in ViTs with rotary positions"
    )


def _fold(taken: dict[str, Tensor]) -> bool:
    """Multiply layer scales into the layers whose output they scale; True if there are any."""
    scales = [name for name in taken if name.endswith(f".{SCALE}")]
    for name in scales:
        scale, stem = taken.pop(name), name.removesuffix(SCALE)
        scale = scale.to(torch.promote_types(scale.dtype, torch.float32))
        taken[f"{stem}weight"] = scale[:, None] * taken[f"{stem}weight"]
        taken[f"{stem}bias"] = scale * taken[f"{stem}bias"]
    return bool(scales)


def _listed(faults: Mapping[str, str]) -> str:
    """A line for each name, and one for names that differ in a block's number alone."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, fault in faults.items():
        head, *rest = re.split(r"(?<=\.)(\d+)(?=\.)", name, maxsplit=1)
        number, tail = rest or ("", "")
        groups.setdefault((head, tail, fault), []).append(number)
    lines = []
    for (head, tail, fault), numbers in groups.items():
        told = sorted(numbers, key=lambda number: (len(number), number))
        whole = len(told) > 1 and told == [str(number) for number in range(len(told))]
        where = f"0..{told[-1]}" if whole else ",".join(told)
        lines.append(f"  {head}{f'{{{where}}}' if len(told) > 1 else where}{tail}: {fault}")
    return "\n".join(sorted(lines))
