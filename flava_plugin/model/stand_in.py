"""Our encoders behind the interface of torchmultimodal's ``FLAVAModel``.

``FLAVAForPreTraining``, ``FLAVAForClassification`` and whatever else is written for a
``FLAVAModel`` takes a ``StandIn`` in its place: ``theirs.model = stand_in(theirs.model)``.

Legend for shapes: B rows, P patches, L tokens, D width, E projection width.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torchmultimodal.models.flava.model import FLAVAModel, FLAVAOutput
from torchmultimodal.modules.layers.transformer import TransformerOutput

from flava_plugin.model.backbone import Backbone, fused_encoder_of, project
from flava_plugin.model.upstream_copy import backbone_of
from flava_plugin.model.upstream_output import (
    Encoded,
    encode,
    fuse,
    may_be_watched,
    padding_computed,
)

PAD = 0
"""Padding's token id of a text encoder whose embeddings do not say (BERT's)."""


class StandIn(nn.Module):
    """A ``FLAVAModel`` in all but its class: it computes with a backbone's encoders.

    Names of weights are torchmultimodal's, so its checkpoints load strictly. Upstream nothing asks
    for the class. What differs:

    - ``hidden_states`` and ``attentions`` are None, for keeping them costs what fused attention
      saves, unless ``every_layer``. ``FLAVAForPreTraining`` and ``FLAVAForClassification`` read
      neither; upstream they are read by ``FLAVAModel.forward`` alone, which this class replaces.
    - Projections are computed in fp32 under autocast.
    - Without ``image_patches_mask`` there is one pass of the image, which is both ``image`` and
      ``image_masked``; upstream runs two.
    - Images of another size than the built one get resized position embeddings, where upstream
      refuses them.

    Args:
        backbone: Ours; its encoders are shared, not copied.
        padding: ``released``: the multimodal encoder attends to padding, as torchmultimodal's does;
            ``masked``: it does not, and text states at padding mean nothing. The text encoder never
            attends to it. Padding is known by its token id.
        every_layer: Whether ``hidden_states`` (what the first layer is given, and what each layer
            puts out) and ``attentions`` are filled, as upstream's always are. They are detached but
            for the last state of image and text, which ``encode_mm`` takes.

    Raises:
        ValueError: ``every_layer`` with an encoder that is not made of this package's layers.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        padding: Literal["masked", "released"] = "released",
        every_layer: bool = False,
    ) -> None:
        super().__init__()
        # In upstream's order, which is that of a checkpoint and of an optimiser's parameters.
        self.image_encoder = backbone.image_encoder
        self.text_encoder = backbone.text_encoder
        self.mm_encoder = fused_encoder_of(backbone)
        self.image_to_mm_projection = backbone.image_to_mm_projection
        self.text_to_mm_projection = backbone.text_to_mm_projection
        self.text_projection = backbone.text_projection
        self.image_projection = backbone.image_projection
        self.padding = padding
        self.every_layer = every_layer
        encoders = (self.image_encoder, self.text_encoder, self.mm_encoder)
        foreign = [type(e).__name__ for e in encoders if not may_be_watched(e)]
        if every_layer and foreign:
            raise ValueError(
                f"every_layer: {', '.join(foreign)} is not made of this package's layers, so they "
                "cannot be looked into; leave every_layer out"
            )

    def forward(
        self,
        image: Tensor | None = None,
        text: Tensor | None = None,
        image_patches_mask: Tensor | None = None,
        text_masked: Tensor | None = None,
        required_embedding: Literal["image", "text", "mm"] | None = None,
        skip_unmasked_mm_encoder: bool = True,
    ) -> FLAVAOutput:
        """Encode as ``FLAVAModel.forward`` does, argument by argument.

        Args:
            image: (B, 3, H, W) float, normalised.
            text: (B, L) long, token ids without masking.
            image_patches_mask: (B, P), true where the mask token stands in for the patch.
            text_masked: (B, L) long, token ids with masked words replaced.
            required_embedding: Which inputs count, ``mm`` being both; by default those given.
            skip_unmasked_mm_encoder: Whether ``multimodal`` stays empty; no pretraining loss reads
                it.

        Returns:
            Upstream's tuple; what was not computed is an empty ``TransformerOutput`` or None.
        """
        if required_embedding is None:
            both = image is not None and text is not None
            required_embedding = "mm" if both else "text" if image is None else "image"
        if required_embedding == "text":
            image = None
        if required_embedding == "image":
            text = text_masked = None
        clean_image = None if image is None else self._image(image, None)
        masked_image = clean_image
        if image is not None and image_patches_mask is not None:
            masked_image = self._image(image, image_patches_mask)
        clean_text = None if text is None else self._text(text, None)
        masked_text = None if text_masked is None else self._text(text_masked, None)
        empty = TransformerOutput()
        clean = masked = empty
        if required_embedding == "mm":
            if not skip_unmasked_mm_encoder:
                clean = self._fuse(clean_image, clean_text, text)
            masked = self._fuse(masked_image, masked_text, text_masked)
        return FLAVAOutput(
            image=clean_image.output if clean_image else empty,
            image_masked=masked_image.output if masked_image else empty,
            text=clean_text.output if clean_text else empty,
            text_masked=masked_text.output if masked_text else empty,
            multimodal=clean,
            multimodal_masked=masked,
            projected_image_embeddings=(
                project(self.image_projection, clean_image.states) if clean_image else None
            ),
            projected_text_embeddings=(
                project(self.text_projection, clean_text.states) if clean_text else None
            ),
        )

    def encode_image(
        self, image: Tensor, image_patches_mask: Tensor | None = None, projection: bool = False
    ) -> TransformerOutput | tuple[TransformerOutput, Tensor]:
        """Encode images.

        Args:
            image: (B, 3, H, W) float, normalised.
            image_patches_mask: (B, P), true where the mask token stands in for the patch.
            projection: Whether to project [CLS] as well.

        Returns:
            States (B, 1 + P, D); with ``projection`` also (B, E), not normalised.
        """
        encoded = self._image(image, image_patches_mask)
        if projection:
            return encoded.output, project(self.image_projection, encoded.states)
        return encoded.output

    def encode_text(
        self, text: Tensor, text_mask: Tensor | None = None, projection: bool = False
    ) -> TransformerOutput | tuple[TransformerOutput, Tensor]:
        """Encode texts.

        Args:
            text: (B, L) long.
            text_mask: (B, L), not 0 at real tokens; by default wherever no padding's id stands.
            projection: Whether to project [CLS] as well.

        Returns:
            States (B, L, D); with ``projection`` also (B, E), not normalised.

        Raises:
            ValueError: ``text_mask`` is one of single attention weights.
        """
        if text_mask is not None and text_mask.shape != text.shape:
            raise ValueError(
                f"text_mask is {tuple(text_mask.shape)}, but has to be {tuple(text.shape)}, a "
                "number for each token; masks of single attention weights are not supported"
            )
        encoded = self._text(text, text_mask)
        if projection:
            return encoded.output, project(self.text_projection, encoded.states)
        return encoded.output

    def encode_mm(
        self,
        image_embedding: Tensor | None,
        text_embedding: Tensor | None,
        text_mask: Tensor | None = None,
    ) -> TransformerOutput:
        """Fuse what the last layers of both encoders put out, before their final norms.

        Args:
            image_embedding: (B, 1 + P, D); ``encode_image(image).hidden_states[-1]`` with
                ``every_layer``.
            text_embedding: (B, L, D), likewise.
            text_mask: (B, L), not 0 at real tokens, which upstream has no place for; read where
                ``padding`` is ``masked``, and without it all is attended to.

        Returns:
            States (B, 2 + P + L, D), [CLS_M] first; an empty output where an embedding is None.
        """
        if image_embedding is None or text_embedding is None:
            return TransformerOutput()
        image = self.image_to_mm_projection(image_embedding)
        states = torch.cat([image, self.text_to_mm_projection(text_embedding)], dim=1)
        mask = None
        if self.padding == "masked" and text_mask is not None:
            real = text_mask.bool()
            mask = torch.cat([real.new_ones(image.shape[:2]), real], dim=1)
        return fuse(self.mm_encoder, states, mask, every_layer=self.every_layer)

    def _image(self, image: Tensor, mask: Tensor | None) -> Encoded:
        mask = None if mask is None else mask.flatten(1).bool()
        return encode(self.image_encoder, image, mask, every_layer=self.every_layer)

    def _text(self, ids: Tensor, mask: Tensor | None) -> Encoded:
        real = self._real(ids) if mask is None else mask.bool()
        released = self.padding == "released"
        with padding_computed(self.text_encoder) if released else nullcontext():
            return encode(self.text_encoder, ids, real, every_layer=self.every_layer)

    def _fuse(
        self, image: Encoded | None, text: Encoded | None, ids: Tensor | None
    ) -> TransformerOutput:
        if image is None or text is None or ids is None:
            return TransformerOutput()
        return self.encode_mm(image.last, text.last, self._real(ids))

    def _real(self, ids: Tensor) -> Tensor:
        embeddings = getattr(self.text_encoder, "embeddings", None)
        return ids != getattr(embeddings, "pad_token_id", PAD)


def stand_in(
    model: Backbone | FLAVAModel,
    *,
    padding: Literal["masked", "released"] = "released",
    every_layer: bool = False,
) -> StandIn:
    """Make what can be used wherever a ``FLAVAModel`` is.

    Args:
        model: A backbone of ours, whose weights are shared; or torchmultimodal's model, whose sizes
            and weights are copied (``backbone_of``).
        padding: See ``StandIn``.
        every_layer: See ``StandIn``.

    Returns:
        The stand-in, in training or evaluation as the model is.
    """
    backbone = model if isinstance(model, Backbone) else backbone_of(model)
    made = StandIn(backbone, padding=padding, every_layer=every_layer)
    made.training = model.training  # of the parts, which may differ, each keeps its own
    return made
