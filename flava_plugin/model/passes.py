"""The passes of the image and the text encoder that a batch needs, as few as can be.

Legend for shapes: B rows, P patches, L tokens, S positions of either, D width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from flava_plugin.model.reads import Reads, positions_of
from flava_plugin.types import Batch

VIEWS = frozenset({"image", "image_masked", "text", "text_masked"})
"""Fields of ``Features`` that are one encoder's states of one input."""

Encoded = tuple[Tensor, Tensor]
"""The last layer's output and the same after the final norm, both (B, S, D)."""


def encode_views(
    batch: Batch,
    image_encoder: nn.Module,
    text_encoder: nn.Module,
    last: Reads,
    *,
    states: Reads,
    join: bool,
    padding_is_read: bool,
) -> dict[str, Encoded]:
    """Encode views of a batch.

    Args:
        batch: The batch.
        image_encoder: Of ``image`` and ``image_masked``.
        text_encoder: Of ``text`` and ``text_masked``.
        last: By view the positions of the last layer's output that are read.
        states: The same of the states after the norm, for the views where these are read.
        join: Whether clean and masked rows may go through in one forward: as fast on a CPU, half
            the kernels on a GPU and half the gathering of sharded layers.
        padding_is_read: Whether the multimodal encoder attends to padding.

    Returns:
        By view.
    """
    inputs = {view: inputs_of(batch, view) for view in sorted(last)}
    encoded: dict[str, Encoded] = {}
    sides = (("image", image_encoder), ("text", text_encoder))
    for clean, encoder in sides:
        masked = f"{clean}_masked"
        if join and clean in inputs and masked in inputs:
            (plain, hint), (other, mask) = inputs[clean], inputs[masked]
            read = None
            # Where a head reads a whole field, padding in it is to be 0 and not NaN.
            if all(states.get(view, frozenset()) is not None for view in (clean, masked)):
                marks = [_read_at(batch, encoder, view, last) for view in (clean, masked)]
                read = _join_reads(marks, None if padding_is_read else _padding(batch, clean))
            joined = encode(encoder, torch.cat([plain, other]), join_hints(hint, mask), read)
            halves = zip(*(part.chunk(2) for part in joined), strict=True)
            encoded[clean], encoded[masked] = halves
        elif clean in inputs:
            encoded[clean] = encode(encoder, *inputs[clean], _read_at(batch, encoder, clean, last))
    for clean, encoder in sides:  # after all clean ones: see where ``join`` is chosen
        masked = f"{clean}_masked"
        if masked in inputs and masked not in encoded:
            read = _read_at(batch, encoder, masked, last)
            encoded[masked] = encode(encoder, *inputs[masked], read)
    return encoded


def encode(encoder: nn.Module, inputs: Tensor, hint: Tensor | None, read: Tensor | None) -> Encoded:
    """Run an encoder of images or text.

    Args:
        encoder: The encoder.
        inputs: Images or token ids.
        hint: Patch mask or padding, or None.
        read: Positions that are read, or None for all.

    Returns:
        The last layer's output and the states after the norm.
    """
    if read is None:
        return cast(Encoded, encoder(inputs, hint))
    return cast(Encoded, encoder(inputs, hint, read))


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


def _read_at(batch: Batch, encoder: nn.Module, view: str, reads: Reads) -> Tensor | None:
    """(B, S) bool of the positions of a view that are read, None for all."""
    read = reads[view]
    if read is None or not getattr(encoder, "reads_positions", False):
        return None
    image_length = 0
    if batch.image is not None and view.startswith("image"):
        patch = getattr(encoder, "patch_size", None)
        if not isinstance(patch, int):
            return None  # how many positions there are is not known, so all are read
        height, width = batch.image.shape[-2:]
        image_length = 1 + (height // patch) * (width // patch)
    return positions_of(batch, view, read, image_length)


def _padding(batch: Batch, clean: str) -> Tensor | None:
    return batch.text_padding if clean == "text" else None


def _join_reads(marks: list[Tensor | None], real: Tensor | None) -> Tensor | None:
    """(2B, S) bool of clean and masked rows; where all is read, that is all that is real."""
    known = next((mark for mark in marks if mark is not None), None)
    if known is None:
        return None
    whole = torch.ones_like(known) if real is None else real
    return torch.cat([whole if mark is None else mark for mark in marks])
