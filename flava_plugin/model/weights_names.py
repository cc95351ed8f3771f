"""What each implementation calls a weight of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Format = Literal["torchmultimodal", "hugging_face", "flava_plugin"]

PREFIXES = {
    "backbone.": "model.",
    "heads.mlm.": "loss.mlm_loss.",
    "heads.mim.": "loss.mim_loss.",
    "heads.mmm_text.": "loss.mmm_loss.mlm.",
    "heads.mmm_image.": "loss.mmm_loss.mim.",
    "heads.itm.": "loss.itm_loss.",
    "losses.contrastive.": "loss.contrastive_loss.",
}
"""Ours -> torchmultimodal's."""

HUGGING_FACE_HEADS = {
    "heads.mlm.cls.": "mlm_head.",
    "heads.mim.cls.": "mim_head.",
    "heads.mmm_text.cls.": "mmm_text_head.",
    "heads.mmm_image.cls.": "mmm_image_head.",
    "heads.itm.cls.": "itm_head.",
    "heads.itm.": "itm_head.",
    "losses.contrastive.": "flava.",
    "backbone.image_encoder.": "flava.image_model.",
    "backbone.text_encoder.": "flava.text_model.",
    "backbone.mm_encoder.": "flava.multimodal_model.",
    "backbone.": "flava.",
}
"""Beginnings: ours -> Hugging Face's; the first that fits counts."""

HUGGING_FACE_LAYERS = {
    ".attention.query.": ".attention.attention.query.",
    ".attention.key.": ".attention.attention.key.",
    ".attention.value.": ".attention.attention.value.",
    ".attention.output.": ".attention.output.dense.",
    ".feedforward.model.0.": ".intermediate.dense.",
    ".feedforward.model.2.": ".output.dense.",
    ".attention_layernorm.": ".layernorm_before.",
    ".feedforward_layernorm.": ".layernorm_after.",
    ".embeddings.layer_norm.": ".embeddings.LayerNorm.",
}
"""Middles of names in the encoders."""


@dataclass(frozen=True)
class Naming:
    """Names of one implementation.

    Attributes:
        format: What it is called on the command line.
        prefix: Beginning of the names of its model without heads (``FLAVAModel``) inside the whole.
        name: Our name -> its name in the whole.
    """

    format: Format
    prefix: str
    name: Callable[[str], str]


def _torchmultimodal(name: str) -> str:
    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
    return PREFIXES[prefix] + name.removeprefix(prefix)


def _hugging_face(name: str) -> str:
    prefix = next(prefix for prefix in HUGGING_FACE_HEADS if name.startswith(prefix))
    name = HUGGING_FACE_HEADS[prefix] + name.removeprefix(prefix)
    if "_head." in name:
        for part, theirs in (("dense.", "dense."), ("layer_norm.", "LayerNorm.")):
            name = name.replace(f"_head.{part}", f"_head.transform.{theirs}")
    for part, theirs in HUGGING_FACE_LAYERS.items():
        name = name.replace(part, theirs)
    return name


NAMINGS: dict[Format, Naming] = {
    "torchmultimodal": Naming("torchmultimodal", "model.", _torchmultimodal),
    "hugging_face": Naming("hugging_face", "flava.", _hugging_face),
    "flava_plugin": Naming("flava_plugin", "backbone.", str),
}
