"""Batch -> Features: three encoders and the linear maps between them, only the passes needed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from flava_plugin.model.attention import EncoderStack
from flava_plugin.types import Batch, Features

Encoded = tuple[Tensor, Tensor]
"""The last layer's output and the same after the final norm."""


class Backbone(nn.Module):
    """FLAVA without its heads; parameters bear the names of torchmultimodal's ``FLAVAModel``.

    Args:
        image_encoder: See ``components/encoders.py`` for what an encoder must offer.
        text_encoder: The same.
        mm_encoder: The multimodal encoder.
        projection: Width E of the contrastive projections.
        padding: ``masked``: no encoder attends to padding; ``released``: the multimodal one does.
        activation_checkpointing: Whether the built-in layers are recomputed in the backward pass.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        mm_encoder: nn.Module,
        *,
        projection: int,
        padding: Literal["masked", "released"] = "masked",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.padding = padding
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.mm_encoder = mm_encoder
        image, text, fused = (
            width_of(encoder, place)
            for encoder, place in (
                (image_encoder, "model.image_encoder"),
                (text_encoder, "model.text_encoder"),
                (mm_encoder, "model.fused_encoder"),
            )
        )
        self.image_to_mm_projection = nn.Linear(image, fused)
        self.text_to_mm_projection = nn.Linear(text, fused)
        self.image_projection = nn.Linear(image, projection)
        self.text_projection = nn.Linear(text, projection)
        for module in self.modules():
            if isinstance(module, EncoderStack):
                module.activation_checkpointing = activation_checkpointing
        self._drops = any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.modules())

    def forward(self, batch: Batch, needs: frozenset[str]) -> Features:
        """Compute the features asked for, and nothing else.

        Args:
            batch: A batch of any modality.
            needs: Names of fields of ``Features``.

        Returns:
            Those fields; one that the batch cannot give is refused (``inputs_of``).
        """
        fuse = "fused" in needs
        views = needs & {"image", "image_masked", "text", "text_masked"}
        fused_image = "image" if batch.patch_mask is None else "image_masked"
        fused_text = "text" if batch.text_masked is None else "text_masked"
        if fuse:
            views |= {fused_image, fused_text}
        if "image_projected" in needs:
            views |= {"image"}
        if "text_projected" in needs:
            views |= {"text"}
        encoded = self._encode(batch, views)
        states = {view: encoded[view][1] for view in views & needs}
        if "image_projected" in needs:
            states["image_projected"] = project(self.image_projection, encoded["image"][1])
        if "text_projected" in needs:
            states["text_projected"] = project(self.text_projection, encoded["text"][1])
        if fuse:
            image, text = encoded[fused_image][0], encoded[fused_text][0]
            states["fused"] = self._fuse(image, text, batch.text_padding)
        return Features(**states)

    def encode_image(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode unmasked images.

        Args:
            image: (B, 3, H, W) float, normalised.

        Returns:
            (B, 1 + P, D) states and (B, E) projections, not normalised.
        """
        states = self.image_encoder(image, None)[1]
        return states, project(self.image_projection, states)

    def encode_text(self, ids: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode unmasked texts.

        Args:
            ids: (B, L) long.
            padding: (B, L) bool, True at real tokens.

        Returns:
            (B, L, D) states and (B, E) projections, not normalised.
        """
        states = self.text_encoder(ids, padding)[1]
        return states, project(self.text_projection, states)

    def encode_pair(self, image: Tensor, ids: Tensor, padding: Tensor | None = None) -> Tensor:
        """Encode unmasked images together with texts.

        Args:
            image: (B, 3, H, W) float, normalised.
            ids: (B, L) long.
            padding: (B, L) bool, True at real tokens.

        Returns:
            (B, 2 + P + L, D) multimodal states, [CLS_M] first.
        """
        last_image = self.image_encoder(image, None)[0]
        last_text = self.text_encoder(ids, padding)[0]
        return self._fuse(last_image, last_text, padding)

    def _encode(self, batch: Batch, views: frozenset[str]) -> dict[str, Encoded]:
        inputs = {view: inputs_of(batch, view) for view in sorted(views)}
        encoded: dict[str, Encoded] = {}
        # Clean and masked rows go through in one forward: as fast on a CPU, half the kernels on a
        # GPU and half the gathering of sharded layers. With dropout they must not: the cached
        # contrastive loss runs the clean passes twice and replays the same random numbers, so
        # these must come first and by themselves.
        join = not (self.training and self._drops)
        for clean, encoder in (("image", self.image_encoder), ("text", self.text_encoder)):
            masked = f"{clean}_masked"
            if join and clean in inputs and masked in inputs:
                (plain, hint), (other, mask) = inputs[clean], inputs[masked]
                last, states = encoder(torch.cat([plain, other]), join_hints(hint, mask))
                halves = zip(last.chunk(2), states.chunk(2), strict=True)
                encoded[clean], encoded[masked] = halves
            elif clean in inputs:
                encoded[clean] = encoder(*inputs[clean])
        for masked, encoder in (
            ("image_masked", self.image_encoder),
            ("text_masked", self.text_encoder),
        ):
            if masked in inputs and masked not in encoded:
                encoded[masked] = encoder(*inputs[masked])
        return encoded

    def _fuse(self, image: Tensor, text: Tensor, padding: Tensor | None) -> Tensor:
        """Run the multimodal encoder on both encoders' last layers, before their final norms."""
        states = torch.cat(
            [self.image_to_mm_projection(image), self.text_to_mm_projection(text)], dim=1
        )
        if padding is None or self.padding == "released":
            mask = None
        else:
            mask = torch.cat([padding.new_ones(image.shape[:2]), padding], dim=1)
        fused: Tensor = self.mm_encoder(states, mask)
        return fused


def project(projection: nn.Module, states: Tensor) -> Tensor:
    """Project [CLS], in fp32 whatever the autocast: bf16 costs the contrastive loss most.

    Args:
        projection: A linear layer, D -> E.
        states: (B, L, D).

    Returns:
        (B, E) fp32.
    """
    with torch.autocast(states.device.type, enabled=False):
        projected: Tensor = projection(states[:, 0].float())
    return projected


def inputs_of(batch: Batch, view: str) -> tuple[Tensor, Tensor | None]:
    """What an encoder is given to compute one view of a batch.

    Args:
        batch: The batch.
        view: ``image``, ``image_masked``, ``text`` or ``text_masked``.

    Returns:
        Image and patch mask, or token ids and padding.

    Raises:
        ValueError: The batch does not hold them.
    """
    value = batch.image if view.startswith("image") else getattr(batch, view)
    mask = {"image": None, "image_masked": batch.patch_mask}.get(view, batch.text_padding)
    if value is None or (view == "image_masked" and mask is None):
        lacking = "patch_mask" if value is not None else view.removesuffix("_masked")
        lacking = "text_masked" if view == "text_masked" else lacking
        raise ValueError(
            f"an objective reads '{view}', but this {batch.modality} batch has no {lacking}; "
            "check the objective's modality and its head's 'reads'"
        )
    return value, mask


def join_hints(clean: Tensor | None, masked: Tensor | None) -> Tensor | None:
    """Join what tells the clean and the masked rows' encoder what to look away from.

    Args:
        clean: (B, L) bool padding, or None for an unmasked image.
        masked: (B, P) bool patch mask or (B, L) bool padding, or None for no padding.

    Returns:
        (2B, P) or (2B, L) bool, or None where both are None.
    """
    if masked is None:
        return None
    return torch.cat([torch.zeros_like(masked) if clean is None else clean, masked])


def width_of(encoder: nn.Module, place: str) -> int:
    """Read an encoder's width.

    Args:
        encoder: The encoder.
        place: Where the recipe names it.

    Returns:
        Width D.

    Raises:
        ValueError: It has none.
    """
    width = getattr(encoder, "width", None)
    if not isinstance(width, int):
        raise ValueError(
            f"{place}: {type(encoder).__name__} has no attribute 'width'; an encoder must say its "
            "width (see flava_plugin/components/encoders.py)"
        )
    return width


def fields_of(batch: Batch) -> frozenset[str]:
    """Every field of ``Features`` that a batch can give.

    Args:
        batch: Any batch.

    Returns:
        Names of fields.
    """
    fields: set[str] = set()
    if batch.image is not None:
        fields |= {"image", "image_projected"}
    if batch.text is not None:
        fields |= {"text", "text_projected"}
    if batch.patch_mask is not None:
        fields.add("image_masked")
    if batch.text_masked is not None:
        fields.add("text_masked")
    return frozenset(fields | {"fused"} if batch.modality == "pair" else fields)
