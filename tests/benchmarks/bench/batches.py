"""Synthetic batches: pictures of noise, captions of random words with lengths as captions have.

Each side gets a batch as its own loading makes it. Ours: texts padded to the longest, pictures in
uint8, which the training step scales, so that this is part of our time. The peers: texts padded to
``Size.length``, pictures scaled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flava_plugin.data.collate import Padding, pixel_scale, split
from flava_plugin.model.execution import TEXT_MULTIPLE
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import IGNORE, Batch, Modality
from tests.benchmarks.bench.sizes import CODES, WORDS, Size

PAD, CLS, SEP, MASK = 0, 101, 102, 103
FIRST_WORD = 999
"""BERT's ids below are special or unused."""

MEDIAN_PIECES, SPREAD = 16.0, 0.4
"""Word pieces of a caption: log-normal, one in 40 longer than 35; [CLS] and [SEP] come on top."""

PIXELS = ImageSection(codebook_range=(0.1, 0.9))
"""The scales of both loaders; DALL-E's encoder sees pixels in [0.1, 0.9]."""

HIDDEN_WORDS = 0.15
NEGATIVES = 0.1
"""Share of mismatched pairs (torchmultimodal: 0.1); from three rows on there is at least one."""


@dataclass(frozen=True)
class Kind:
    """What a row of the table holds.

    Attributes:
        modality: Of its batch.
        padded: Whether texts have lengths as captions have and are padded to ``Size.length``.
    """

    modality: Modality
    padded: bool = False

    @property
    def has_codes(self) -> bool:
        """Whether a loss reads the codebook's tokens."""
        return self.modality != "text"


KINDS = {
    "pair_padded": Kind("pair", padded=True),
    "pair": Kind("pair"),
    "image": Kind("image"),
    "text": Kind("text"),
    "text_padded": Kind("text", padded=True),
}


@dataclass(frozen=True)
class Work:
    """One batch, as each side gets it.

    Attributes:
        kind: What it is.
        padded: What the peers get.
        trimmed: The same rows as our loader hands them to a step. It pads no further in the first
            place, so that trimming is no part of the time.
    """

    kind: Kind
    padded: Batch
    trimmed: Batch

    @property
    def longest(self) -> int:
        """Tokens of the longest text; 0 where there is none."""
        return 0 if self.trimmed.text is None else self.trimmed.text.shape[1]

    def to(self, device: torch.device) -> Work:
        """The same batch on a device, for both sides, before the clock starts."""
        return replace(self, padded=self.padded.to(device), trimmed=self.trimmed.to(device))


def make_work(
    size: Size, kind: Kind, *, given: bool, seed: int = 0, rows: int = 0, compiled: bool = False
) -> Work:
    """Draw a batch.

    Args:
        size: Of the model.
        kind: What the batch holds.
        given: Whether the codebook's tokens come with it, in place of the pictures for it.
        seed: Of the draw.
        rows: Rows, if not the size's own.
        compiled: Whether our loader pads as for compiled layers (to a multiple of some length).
    """
    # Apart, so that the texts are the same whether tokens are given or computed.
    pictures, texts = (torch.Generator().manual_seed(2 * seed + side) for side in (0, 1))
    rows = rows or size.rows
    drawn: dict[str, Any] = {}
    if kind.modality != "text":
        drawn |= _pictures(size, rows, pictures, given=given)
    if kind.modality != "image":
        drawn |= _texts(size, rows, texts, padded=kind.padded)
    if kind.modality == "pair":
        negatives = max(int(rows * NEGATIVES), int(rows > 2))
        drawn["matched"] = torch.arange(rows) >= negatives
        drawn["positives"] = drawn["matched"]
    pixels = pixel_scale(PIXELS) if kind.modality != "text" else None
    batch = Batch(modality=kind.modality, pixels=pixels, **drawn)
    multiple = TEXT_MULTIPLE if compiled else 1
    padding = Padding(PAD, multiple, {kind.modality: size.length})
    return Work(kind, batch.as_floats(), split(batch, rows, padding)[0])


def _pictures(
    size: Size, rows: int, generator: torch.Generator, *, given: bool
) -> dict[str, Tensor]:
    side, small = size.image, size.codebook_image
    scores = torch.rand(rows, size.patches, generator=generator)
    mask = torch.zeros(rows, size.patches, dtype=torch.bool)
    mask.scatter_(1, scores.topk(size.hidden_patches, dim=1).indices, True)
    drawn = {"image": noise(rows, side, generator), "patch_mask": mask}
    if given:
        drawn["codes"] = torch.randint(CODES, (rows, size.patches), generator=generator)
    else:
        drawn["codebook_image"] = noise(rows, small, generator)
    return drawn


def noise(rows: int, side: int, generator: torch.Generator) -> Tensor:
    """Pictures as a reading process hands them over: (rows, 3, side, side) uint8."""
    return torch.randint(256, (rows, 3, side, side), generator=generator, dtype=torch.uint8)


def _texts(size: Size, rows: int, generator: torch.Generator, *, padded: bool) -> dict[str, Tensor]:
    lengths = torch.full((rows,), size.length)
    if padded:
        pieces = torch.randn(rows, generator=generator).mul(SPREAD).exp() * MEDIAN_PIECES
        lengths = (pieces.round().long() + 2).clamp(4, size.length)  # with [CLS] and [SEP]
    places = torch.arange(size.length)[None]
    padding = places < lengths[:, None]
    text = torch.randint(FIRST_WORD, WORDS, (rows, size.length), generator=generator)
    text[:, 0] = CLS
    text = text.masked_fill(places == lengths[:, None] - 1, SEP).masked_fill(~padding, PAD)
    words = padding & (places > 0) & (places < lengths[:, None] - 1)
    hidden = words & (torch.rand(rows, size.length, generator=generator) < HIDDEN_WORDS)
    hidden[:, 1] = True  # no row without one: a mean over nothing is no number
    return {
        "text": text,
        "text_masked": text.masked_fill(hidden, MASK),
        "text_padding": padding,
        "word_labels": text.masked_fill(~hidden, IGNORE),
    }
