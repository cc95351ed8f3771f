"""The parts of a learner, built as the recipe names them.

A part's first weights are a function of the seed and the part's name: they depend neither on the
global random state nor on what else the recipe holds, so that a run with one objective more starts
from the same backbone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from flava_plugin import registry
from flava_plugin.model.backbone import Backbone, width_of
from flava_plugin.registry import Registry
from flava_plugin.schema import Component
from flava_plugin.sections import ModelSection
from flava_plugin.types import Widths

TOKENS = ("cls_token", "mask_token", "position_embeddings")
"""Names of the bare parameters of encoders that ``position_std`` fills."""


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Draw from a stream of one's own and leave the global one as it was.

    Args:
        seed: The run's seed.
        name: Of the part.

    Yields:
        None: Inside, torch's CPU generator is a function of both.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs as well and not put them back.
        torch.default_generator.manual_seed(int.from_bytes(digest[:7], "big"))
        yield


def initialise(module: nn.Module, std: float, token_std: float) -> None:
    """Fill a module as torchmultimodal does, with the recipe's spread.

    Args:
        module: Weights of linear, convolution and embedding layers get a normal distribution,
            biases 0, layer norms 1 and 0, the padding row 0.
        std: Of these weights.
        token_std: Of class and mask tokens and image position embeddings.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx].detach())
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        for name, parameter in part.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            elif name in TOKENS:
                nn.init.normal_(parameter, std=token_std)


def build_part(
    components: Registry, spec: Component, place: str, *runtime: Any, model: ModelSection, seed: int
) -> Any:
    """Build an encoder, head or loss and fill its weights.

    Args:
        components: The registry.
        spec: What the recipe says.
        place: Where it says so.
        *runtime: What the program passes.
        model: Gives the spread of the weights.
        seed: The run's seed.

    Returns:
        What the builder returns; a module with ``recipe_init = True`` is filled by ``initialise``,
        any other keeps the weights it came with.

    Raises:
        ValueError: The component is not made for this place.
    """
    with seeded(seed, place):
        try:
            part = components.build(spec.type, *runtime, **spec.options)
        except TypeError as error:
            raise ValueError(
                f"{place}: {components.kind} '{spec.type}' cannot be built here: {error}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if getattr(part, "recipe_init", False):
            initialise(part, model.init_std, model.position_std)
    return part


def build_backbone(model: ModelSection, *, words: int, seed: int) -> Backbone:
    """Build the encoders and the maps between them.

    Args:
        model: The recipe's section.
        words: Size of the word vocabulary.
        seed: The run's seed.

    Returns:
        The backbone.
    """
    specs = (
        (model.image_encoder, "model.image_encoder", ()),
        (model.text_encoder, "model.text_encoder", (words,)),
        (model.fused_encoder, "model.fused_encoder", ()),
    )
    image, text, fused = (
        None
        if spec is None
        else build_part(registry.encoders, spec, place, *runtime, model=model, seed=seed)
        for spec, place, runtime in specs
    )
    assert image is not None and text is not None
    with seeded(seed, "model.projections"):
        backbone = Backbone(image, text, fused, projection=model.projection, padding=model.padding)
        for name, child in backbone.named_children():
            if name.endswith("_projection"):
                initialise(child, model.init_std, model.position_std)
    return backbone


def widths_of(backbone: Backbone, words: int, codebook: Any, image_size: int) -> Widths:
    """Collect the sizes that heads are built to.

    Args:
        backbone: The backbone.
        words: Size of the word vocabulary.
        codebook: Says ``num_codes``; without one there are no codes.
        image_size: Pixels of a side, ``data.image.size``.

    Returns:
        The sizes; ``fused`` is 0 without a multimodal encoder.

    Raises:
        ValueError: The image encoder is made for another size.
    """
    image: Any = backbone.image_encoder
    fused = backbone.mm_encoder
    if getattr(image, "image_size", image_size) != image_size:
        raise ValueError(
            f"model.image_encoder.image_size is {image.image_size}, but data.image.size is "
            f"{image_size}; make them equal"
        )
    return Widths(
        image=width_of(image, "model.image_encoder"),
        text=width_of(backbone.text_encoder, "model.text_encoder"),
        fused=0 if fused is None else width_of(fused, "model.fused_encoder"),
        projection=backbone.image_projection.out_features,
        words=words,
        codes=0 if codebook is None else int(codebook.num_codes),
        patches=int(image.num_patches),
    )
