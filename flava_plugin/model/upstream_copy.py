"""A backbone of ours at the sizes and with the weights of torchmultimodal's ``FLAVAModel``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchmultimodal.models.flava.image_encoder import ImageTransformer
from torchmultimodal.models.flava.model import FLAVAModel
from torchmultimodal.models.flava.transformer import FLAVATransformerWithoutEmbeddings
from torchmultimodal.modules.encoders.bert_text_encoder import BERTTextEncoder

from flava_plugin import registry
from flava_plugin.model.attention import ENCODER_EPS
from flava_plugin.model.backbone import Backbone

ENCODERS = {
    "image_encoder": ImageTransformer,
    "text_encoder": BERTTextEncoder,
    "mm_encoder": FLAVATransformerWithoutEmbeddings,
}
"""Upstream's class of each encoder that ``flava_model`` builds."""


def backbone_of(model: FLAVAModel) -> Backbone:
    """Copy torchmultimodal's model into a backbone of ours.

    Args:
        model: What ``flava_model`` builds, at any sizes.

    Returns:
        A backbone with ``padding`` ``released``, torchmultimodal's. Weights are copies, in their
        types, on their devices, trainable where upstream's are.

    Raises:
        ValueError: The model has what our encoders do not: foreign encoders, dropout, another
            activation than GELU, layer norms after the blocks or of another epsilon, images without
            a mask token, another padding id than 0.
    """
    for place, kind in ENCODERS.items():
        found = type(getattr(model, place))
        if not issubclass(found, kind):
            raise ValueError(f"{place} is a {found.__name__}, and not the {kind.__name__} known")
    options = {place: options_of(getattr(model, place), place) for place in ENCODERS}
    image: Any = model.image_encoder.embeddings
    text: Any = model.text_encoder.embeddings
    patches = image.patch_embeddings
    same("image_encoder: mask token", image.mask_token is not None, True)
    same("image_encoder: sides of an image alike", len(set(patches.image_size)), 1)
    same("image_encoder: channels", patches.projection.in_channels, 3)
    same("text_encoder: padding id", text.pad_token_id, 0)
    same("text_encoder: shift of positions", text.offset_pos_ids, False)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    build = registry.encoders.build
    # Without memory, for every number comes from the model: nothing is drawn, nothing twice there.
    with torch.device("meta"):
        backbone = Backbone(
            build(
                "flava_image",
                image_size=patches.image_size[0],
                patch_size=patches.patch_size[0],
                **options["image_encoder"],
            ),
            build(
                "flava_text",
                text.word_embeddings.num_embeddings,
                max_positions=text.position_embeddings.num_embeddings,
                **options["text_encoder"],
            ),
            build("flava_fused", **options["mm_encoder"]),
            projection=len(state["image_projection.weight"]),
            padding="released",
        )
    backbone.load_state_dict(state, assign=True)
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(trained[name])
    return backbone.train(model.training)


def options_of(encoder: nn.Module, place: str) -> dict[str, int]:
    """Read the sizes of upstream's encoder from its layers.

    Args:
        encoder: One of ``ENCODERS``.
        place: Its name in the model, for messages.

    Returns:
        ``layers``, ``width``, ``heads`` and ``mlp``, options of our encoders.

    Raises:
        ValueError: Its layers are not computed as ours are.
    """
    layers: Any = encoder.encoder.layer  # type: ignore[union-attr]
    first = layers[0]
    widen, activate, *rest = first.feedforward.model
    same(f"{place}: activation", type(activate), nn.GELU)
    same(f"{place}: GELU's approximation", activate.approximate, "none")
    same(f"{place}: dropout", first.attention_dropout.p, 0.0)
    same(f"{place}: layer norms before the blocks", first.norm_first, True)
    same(f"{place}: epsilon of the layer norms", first.attention_layernorm.eps, ENCODER_EPS)
    same(f"{place}: layers of a feed-forward block", 2 + len(rest), 3)
    return {
        "layers": len(layers),
        "width": widen.in_features,
        "heads": first.attention.n_head,
        "mlp": widen.out_features,
    }


def same(what: str, found: Any, known: Any) -> None:
    """Refuse a model that is computed in another way than ours.

    Args:
        what: Of the model.
        found: What the model has.
        known: What ours have.

    Raises:
        ValueError: They differ.
    """
    if found != known:
        raise ValueError(
            f"{what} is {found}, but this package's encoders have {known}; a stand-in would not "
            "compute the same, so keep torchmultimodal's model here"
        )
