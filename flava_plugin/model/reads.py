"""What heads read: a field of ``Features``, or some positions of it such as ``fused.cls``.

Where every head that reads a field names positions, the last layer of its encoder computes those
positions only.

Legend for shapes: B rows, P patches, L tokens, S positions of a field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import torch
from torch import Tensor

from flava_plugin.types import Batch, Features, predicted_positions

Reads = dict[str, frozenset[str] | None]
"""By field the names of the positions that are read, None for all: ``cls`` is the first one,
``words`` and ``patches`` are where a masked head predicts them."""

FIELDS = frozenset(field.name for field in fields(Features))
POSITIONS: dict[str, frozenset[str]] = {
    "image": frozenset({"cls", "patches"}),
    "image_masked": frozenset({"cls", "patches"}),
    "text": frozenset({"cls", "words"}),
    "text_masked": frozenset({"cls", "words"}),
    "fused": frozenset({"cls", "words", "patches"}),
}
"""Positions that can be named, by field."""


def parse_needs(needs: Iterable[str]) -> Reads:
    """Sort what heads read by field.

    Args:
        needs: Such as ``fused``, ``fused.cls`` or ``image_masked.patches``.

    Returns:
        By field the positions that are read, or None for all of them.

    Raises:
        ValueError: There is no such field, or it has no such positions.
    """
    read: Reads = {}
    for need in needs:
        field, dot, positions = need.partition(".")
        if field not in FIELDS or (dot and positions not in POSITIONS.get(field, ())):
            known = sorted(FIELDS | {f"{f}.{p}" for f, ps in POSITIONS.items() for p in ps})
            raise ValueError(f"a head needs '{need}', which is none of {', '.join(known)}")
        earlier = read.get(field, frozenset())
        read[field] = None if not dot or earlier is None else earlier | {positions}
    return read


def positions_of(
    batch: Batch, field: str, read: frozenset[str] | None, image_length: int
) -> Tensor | None:
    """Mark the positions of a field that are read.

    Args:
        batch: The batch.
        field: ``image``, ``image_masked``, ``text``, ``text_masked`` or ``fused``.
        read: Names of positions; None for all.
        image_length: Positions 1 + P of an image, [CLS_I] included.

    Returns:
        (B, S) bool, or None for all.
    """
    if read is None:
        return None
    text_length = 0 if batch.text is None else batch.text.shape[1]
    length, first_patch, first_word = {
        "image": (image_length, 1, 0),
        "text": (text_length, 0, 0),
        "fused": (1 + image_length + text_length, 2, 1 + image_length),
    }[field.removesuffix("_masked")]
    marked = torch.zeros(len(batch), length, dtype=torch.bool, device=batch.device)
    if "cls" in read:
        marked[:, 0] = True
    if "patches" in read:
        chosen = predicted_positions(batch, "patches")
        marked[:, first_patch : first_patch + chosen.shape[1]] = chosen
    if "words" in read:
        chosen = predicted_positions(batch, "words")
        marked[:, first_word : first_word + chosen.shape[1]] = chosen
    return marked
