"""Sizes of the models and their batches."""

from __future__ import annotations

from dataclasses import dataclass

WORDS = 30522
"""Vocabulary of both public implementations (BERT's)."""

CODES = 8192
"""Vocabulary of the DALL-E codebook."""

NORM_EPS = 1e-12
"""Of the masked heads: Hugging Face's; torchmultimodal takes it as an argument (default 1e-5).

One value for all, or the losses differ by up to 2e-4; it changes no time.
"""


@dataclass(frozen=True)
class Size:
    """A model and the batch it is timed on.

    Attributes:
        width: Of all three encoders and of the projection; the feed-forward has four times it.
        heads: Attention heads.
        layers: Of the image, text and multimodal encoder.
        image: Pixels of a side.
        patch: Pixels of a patch's side.
        hidden_patches: Masked patches of an image (torchmultimodal: 75 of 196).
        length: Tokens of a padded text (torchmultimodal: 77).
        rows: Rows of a batch.
        codebook_width: Channels of the codebook's first group (DALL-E: 256).
    """

    width: int
    heads: int
    layers: tuple[int, int, int]
    image: int = 224
    patch: int = 16
    hidden_patches: int = 75
    length: int = 77
    rows: int = 8
    codebook_width: int = 256

    @property
    def patches(self) -> int:
        """Patches P of an image."""
        return (self.image // self.patch) ** 2

    @property
    def codebook_image(self) -> int:
        """Pixels of a side for the codebook, which makes one code of 8 by 8 pixels."""
        return self.image // self.patch * 8


SIZES = {
    "tiny": Size(
        32, 4, (2, 2, 1), image=32, patch=8, hidden_patches=6, rows=4, length=40, codebook_width=8
    ),
    "small": Size(256, 4, (4, 4, 2)),
    "base": Size(768, 12, (12, 12, 6), rows=2),
}
"""``tiny`` is for tests: at that size Python's own time is most of a step."""
