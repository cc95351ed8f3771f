"""Batch -> Features: three encoders and the linear maps between them, only the passes needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from flava_plugin.model.attention import EncoderStack
from flava_plugin.model.passes import VIEWS, encode_views
from flava_plugin.model.reads import Reads, parse_needs, positions_of
from flava_plugin.types import Batch, Features


class Backbone(nn.Module):
    """FLAVA without its heads; parameters bear the names of torchmultimodal's ``FLAVAModel``.

    Args:
        image_encoder: See ``components/encoders.py`` for what an encoder must offer.
        text_encoder: The same.
        mm_encoder: The multimodal encoder; None for a dual encoder, which has no fused states.
        projection: Width E of the contrastive projections.
        padding: ``masked``: no encoder attends to padding; ``released``: the multimodal one does.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        mm_encoder: nn.Module | None,
        *,
        projection: int,
        padding: Literal["masked", "released"] = "masked",
    ) -> None:
        super().__init__()
        self.padding = padding
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.mm_encoder = mm_encoder
        image = width_of(image_encoder, "model.image_encoder")
        text = width_of(text_encoder, "model.text_encoder")
        if mm_encoder is not None:
            fused = width_of(mm_encoder, "model.fused_encoder")
            self.image_to_mm_projection = nn.Linear(image, fused)
            self.text_to_mm_projection = nn.Linear(text, fused)
        self.image_projection = nn.Linear(image, projection)
        self.text_projection = nn.Linear(text, projection)
        if padding == "released":  # padding is read, so it has to be computed
            for module in self.modules():
                if isinstance(module, EncoderStack):
                    module.may_pack = False
        self._drops = any(map(draws, self.modules()))

    def forward(self, batch: Batch, needs: frozenset[str]) -> Features:
        """Compute the features asked for, and nothing else.

        Args:
            batch: A batch of any modality.
            needs: Fields of ``Features``, or positions of them such as ``fused.cls``; other
                positions of such a field may be NaN.

        Returns:
            Those fields; one that the batch cannot give is refused (``inputs_of``).

        Raises:
            LackingError: ``fused`` of a dual encoder.
        """
        asked = parse_needs(needs)
        if "fused" in asked:
            fused_encoder_of(self)  # before the others have run for nothing
        views: Reads = {field: read for field, read in asked.items() if field in VIEWS}
        for side in ("image", "text"):
            if f"{side}_projected" in asked:
                read = views.get(side, frozenset())
                views[side] = None if read is None else read | {"cls"}
        fused_image = "image" if batch.patch_mask is None else "image_masked"
        fused_text = "text" if batch.text_masked is None else "text_masked"
        whole = {fused_image, fused_text} if "fused" in asked else set()
        last: Reads = {**views, **dict.fromkeys(whole)}
        # The cached contrastive loss runs the clean passes twice and replays the same random
        # numbers, so with dropout these come first, by themselves, and whole: what else is read in
        # the second time must not change what is drawn.
        drops = self.training and self._drops
        if drops:
            last |= {view: None for view in last if not view.endswith("_masked")}
        encoded = encode_views(
            batch,
            self.image_encoder,
            self.text_encoder,
            last,
            states=views,
            join=not drops,
            padding_is_read=self.padding == "released",
        )
        states = {view: encoded[view][1] for view in VIEWS & asked.keys()}
        if "image_projected" in asked:
            states["image_projected"] = project(self.image_projection, encoded["image"][1])
        if "text_projected" in asked:
            states["text_projected"] = project(self.text_projection, encoded["text"][1])
        if "fused" in asked:
            image, text = encoded[fused_image][0], encoded[fused_text][0]
            read_at = positions_of(batch, "fused", asked["fused"], image.shape[1])
            states["fused"] = self._fuse(image, text, batch.text_padding, read_at)
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

    def _fuse(
        self, image: Tensor, text: Tensor, padding: Tensor | None, read: Tensor | None = None
    ) -> Tensor:
        """Run the multimodal encoder on both encoders' last layers, before their final norms."""
        encoder = fused_encoder_of(self)
        states = torch.cat(
            [self.image_to_mm_projection(image), self.text_to_mm_projection(text)], dim=1
        )
        if padding is None or self.padding == "released":
            mask = None
        else:
            mask = torch.cat([padding.new_ones(image.shape[:2]), padding], dim=1)
        if read is None or not getattr(encoder, "reads_positions", False):
            return cast(Tensor, encoder(states, mask))
        return cast(Tensor, encoder(states, mask, read))


class LackingError(ValueError):
    """Something was asked for that needs a part this model does not have."""


def fused_encoder_of(backbone: Backbone) -> nn.Module:
    """Take the multimodal encoder of a backbone that has to have one.

    Args:
        backbone: The backbone.

    Returns:
        The encoder.

    Raises:
        LackingError: It is a dual encoder.
    """
    if backbone.mm_encoder is None:
        raise LackingError(
            "this model has no multimodal encoder (model.fused_encoder is null), so nothing can be "
            "read from picture and text together"
        )
    return backbone.mm_encoder


def check_needs(backbone: Backbone, needs: Iterable[str]) -> None:
    """Refuse what a head reads, if there is no such thing or this model has it not.

    Args:
        backbone: The backbone.
        needs: The head's; unknown ones are refused by ``parse_needs``.
    """
    if "fused" in parse_needs(needs):
        fused_encoder_of(backbone)


def project(projection: nn.Module, states: Tensor) -> Tensor:
    """Project [CLS], in fp32 whatever the autocast: bf16 costs the contrastive loss most.

    Args:
        projection: A linear layer, D -> E.
        states: (B, L, D).

    Returns:
        (B, E) fp32.
    """
    # Cloned, for the backward pass keeps a layer's input, and a view would keep all states.
    with torch.autocast(states.device.type, enabled=False):
        projected: Tensor = projection(states[:, 0].float().clone())
    return projected


def draws(module: nn.Module) -> bool:
    """Whether a module draws random numbers in training, as far as its kind tells.

    Args:
        module: Any module; one of a foreign encoder says so by ``draws = True`` where it is none
            of torch's dropout layers.

    Returns:
        True for dropout above 0.
    """
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    rate = getattr(module, "dropout", 0)
    return bool(getattr(module, "draws", False)) or (isinstance(rate, float) and rate > 0)


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


def fields_of(batch: Batch, *, fuses: bool = True) -> frozenset[str]:
    """Every field of ``Features`` that a batch can give.

    Args:
        batch: Any batch.
        fuses: Whether the backbone has a multimodal encoder.

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
    return frozenset(fields | {"fused"} if fuses and batch.modality == "pair" else fields)
