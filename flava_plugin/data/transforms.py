"""From a raw sample to the arrays of one row: crop, two sizes, token ids, and what is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.look import Look
from flava_plugin.data.masking import blockwise_patches, mask_words, random_patches
from flava_plugin.data.pictures import Pixels
from flava_plugin.data.randomness import generator
from flava_plugin.data.tokenizer import Tokenizer
from flava_plugin.sections_data import ImageSection, MaskingSection, TextSection
from flava_plugin.types import Key, Modality, Sample


@dataclass(frozen=True)
class Item:
    """One row of a batch; a field is None where the modality has none.

    Attributes:
        image: (3, H, W) uint8.
        codebook_image: (3, h, w) uint8, the same crop for the codebook; None where the device
            makes it.
        codes: (P,) int64, the codebook's targets where they were computed before the run.
        patch_mask: (P,) bool, True where hidden.
        text: (L,) int64 token ids.
        text_masked: (L,) int64 token ids, some hidden.
        word_labels: (L,) int64, the id to predict or ``IGNORE``.
        matched: Whether text and image belong together.
        extra: The sample's labels.
    """

    image: Pixels | None = None
    codebook_image: Pixels | None = None
    codes: NDArray[np.int64] | None = None
    patch_mask: NDArray[np.bool_] | None = None
    text: NDArray[np.int64] | None = None
    text_masked: NDArray[np.int64] | None = None
    word_labels: NDArray[np.int64] | None = None
    matched: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)


def prepare(
    sample: Sample,
    key: Key,
    *,
    image: ImageSection,
    text: TextSection,
    masking: MaskingSection,
    tokenizer: Tokenizer,
    modality: Modality,
    seed: int,
    caption: str | None = None,
    patch_grid: int,
    with_codebook: bool,
    masked: bool = True,
) -> Item:
    """Make a training row: everything by chance in it is a function of the seed and the key.

    Args:
        sample: The raw sample, or one whose picture was looked at already.
        key: Its name in the run.
        image: How the picture becomes pixels.
        text: How the text becomes ids.
        masking: What is hidden.
        tokenizer: The tokenizer.
        modality: What the row holds.
        seed: Seed of the run.
        caption: A wrong caption, which takes the place of the sample's (an ITM negative).
        patch_grid: Patches of a side of the image.
        with_codebook: Whether the codebook's picture is wanted.
        masked: Whether anything is hidden (fine-tuning hides nothing).

    Returns:
        The row.

    Raises:
        ValueError: More patches are to be hidden than there are.
    """
    pixels = small = hidden_patches = None
    views = sample.views
    if modality != "text" and views is None and sample.image is not None:
        views = Look(image, key, seed, with_codebook).at(sample.image)
    if modality != "text" and views is not None:
        pixels, small = views
        if masked:
            hidden_patches = hide_patches(key, masking, patch_grid, seed)
    ids = hidden_words = labels = None
    words = sample.text if caption is None else caption
    if modality != "image" and words is not None:
        length = text.pair_length if modality == "pair" else text.text_length
        # a wrong caption stands alone; the tokenizers of others need not know second texts
        second = sample.second_text if caption is None else None
        if second is None:
            tokens = tokenizer.encode(words, length)
        else:
            tokens = tokenizer.encode(words, length, second)
        ids = np.array(tokens, dtype=np.int64)
        if masked:
            hidden_words, labels = mask_words(
                tokens,
                tokenizer.special_ids,
                tokenizer.words(tokens) if text.whole_words else (),
                share=masking.words,
                whole_words=text.whole_words,
                mask_id=tokenizer.mask_id,
                vocab_size=tokenizer.vocab_size,
                generator=generator(seed, "words", key),
            )
    return Item(
        image=pixels,
        codebook_image=small,
        codes=sample.codes,
        patch_mask=hidden_patches,
        text=ids,
        text_masked=hidden_words,
        word_labels=labels,
        matched=caption is None,
        extra=sample.extra,
    )


def prepare_plain(
    sample: Sample,
    *,
    image: ImageSection,
    text: TextSection,
    tokenizer: Tokenizer,
    modality: Modality,
    with_codebook: bool = False,
    caption: str | None = None,
    key: Key | None = None,
    masking: MaskingSection | None = None,
    patch_grid: int = 0,
    seed: int = 0,
) -> Item:
    """Make an evaluation row: the whole picture resized, nothing left to chance but the masks.

    Args:
        sample: The raw sample.
        image: How the picture becomes pixels; its crop and flip are passed over.
        text: How the text becomes ids.
        tokenizer: The tokenizer.
        modality: What the row holds.
        with_codebook: Whether the codebook's picture is wanted.
        caption: A wrong caption, which takes the place of the sample's.
        key: What the masks are a function of, beside the seed; needed only with ``masking``.
        masking: What is hidden; None hides nothing.
        patch_grid: Patches of a side of the image; needed only with ``masking``.
        seed: Seed of the masks.

    Returns:
        The row.

    Raises:
        ValueError: More patches are to be hidden than there are.
    """
    return prepare(
        sample,
        key if key is not None else Key("", 0, 0),
        image=image.model_copy(update={"crop": None, "flip": False}),
        text=text,
        masking=masking if masking is not None else MaskingSection(),
        tokenizer=tokenizer,
        modality=modality,
        seed=seed,
        caption=caption,
        patch_grid=patch_grid,
        with_codebook=with_codebook,
        masked=masking is not None,
    )


def hide_patches(
    key: Key, masking: MaskingSection, patch_grid: int, seed: int
) -> NDArray[np.bool_]:
    """Choose the hidden patches of a sample.

    Args:
        key: The sample.
        masking: How many, and how.
        patch_grid: Patches of a side of the image.
        seed: Seed of the run.

    Returns:
        (P,) bool, True where hidden.

    Raises:
        ValueError: More patches are to be hidden than there are.
    """
    chance = generator(seed, "patches", key)
    if masking.patches == "random":
        return random_patches(patch_grid, patch_grid, masking.patch_count, chance)
    return blockwise_patches(
        patch_grid,
        patch_grid,
        masking.patch_count,
        masking.min_block,
        masking.max_block,
        chance,
    )
