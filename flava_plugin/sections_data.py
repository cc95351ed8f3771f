"""The sections of a recipe that say what is read and how; see ``sections`` for the others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flava_plugin.schema import (
    Count,
    DatasetSpec,
    Float,
    Int,
    Positive,
    PositiveFloat,
    Section,
    Share,
    TokenizerSpec,
)
from flava_plugin.types import Modality


class ImageSection(Section):
    """How a picture becomes tensors.

    Attributes:
        size: Pixels of a side for the encoder (paper: 224).
        codebook_size: Pixels of a side for the codebook (BEiT and FLAVA: 112).
        crop: Smallest and largest share of the area of a random resized crop
            (torchmultimodal: 0.9 to 1.0); null resizes the whole picture.
        flip: Whether half of the crops are mirrored (left and right in captions forbid it).
        mean: Per channel (torchmultimodal, CLIP).
        std: Per channel (torchmultimodal, CLIP).
        codebook_range: Pixel range the codebook sees: [0.1, 0.9] for DALL-E's, [0, 1] otherwise.
    """

    size: Positive = 224
    codebook_size: Positive = 112
    crop: tuple[PositiveFloat, PositiveFloat] | None = (0.9, 1.0)
    flip: bool = False
    mean: tuple[Float, Float, Float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.26862954, 0.26130258, 0.27577711)
    codebook_range: tuple[Float, Float] = (0.0, 1.0)


class TextSection(Section):
    """How a text becomes token ids.

    Attributes:
        pair_length: Most tokens of a caption, [CLS] and [SEP] included (torchmultimodal: 77).
        text_length: The same in a text stream (paper: 512).
        whole_words: Mask all pieces of a chosen word.
    """

    pair_length: Annotated[Int, Field(ge=3)] = 77
    text_length: Annotated[Int, Field(ge=3)] = 512
    whole_words: bool = False


class MaskingSection(Section):
    """What MIM, MLM and MMM hide.

    Attributes:
        words: Share of tokens to predict (paper: 0.15; 80 % become [MASK], 10 % a random token,
            10 % stay, as in BERT).
        patches: ``blockwise`` as in BEiT (paper), or ``random``.
        patch_count: Patches hidden in an image (torchmultimodal: 75 of 196).
        min_block: Smallest block in patches (torchmultimodal: 16).
        max_block: Largest block in patches; null for no bound.
    """

    words: Share = 0.15
    patches: Literal["blockwise", "random"] = "blockwise"
    patch_count: Positive = 75
    min_block: Positive = 16
    max_block: Positive | None = None


class MatchingSection(Section):
    """Which pairs become ITM negatives.

    Attributes:
        negatives: Share of pairs given a wrong caption (torchmultimodal: 0.1; paper: not stated).
        hard: Share of those that take the dataset's own hard negative where it has one.
        tries: How many other rows are tried for a caption that differs.
        no_positives: A batch without one matched pair: ``skip`` leaves MMM and contrastive out;
            ``all`` counts every row, as both public implementations do.
    """

    negatives: Share = 0.1
    hard: Share = 0.0
    tries: Positive = 4
    no_positives: Literal["skip", "all"] = "skip"


class SourceSection(Section):
    """A stream of batches of one modality.

    Attributes:
        modality: What a batch of it holds.
        share: Its share of steps.
        dataset: A registered dataset.
    """

    modality: Modality
    share: PositiveFloat
    dataset: DatasetSpec


class DataSection(Section):
    """What is read, and how.

    Attributes:
        global_batch: Rows of one optimiser step over all ranks and micro-batches (paper: 8192).
        per_gpu_batch: Rows of one micro-batch on one rank; null: ``global_batch / ranks``.
        workers: Reading processes of each rank; 0 reads in the training process.
        prefetch: Steps each worker reads ahead.
        bad_samples: How many unreadable samples a run puts up with before it stops.
        tokenizer: A registered tokenizer.
        image: How a picture becomes tensors.
        text: How a text becomes token ids.
        masking: What is hidden.
        matching: Which pairs become ITM negatives.
        sources: Streams by name.
    """

    global_batch: Positive
    per_gpu_batch: Positive | None = None
    workers: Annotated[Int, Field(ge=0, le=256)] = 2  # more would be a slip, and fill the memory
    prefetch: Positive = 2
    bad_samples: Count = 100
    tokenizer: TokenizerSpec
    image: ImageSection = ImageSection()
    text: TextSection = TextSection()
    masking: MaskingSection = MaskingSection()
    matching: MatchingSection = MatchingSection()
    sources: Annotated[dict[str, SourceSection], Field(min_length=1)]
