"""The sections of a recipe that say what is read and how; see ``sections`` for the others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flava_plugin.schema import (
    Count,
    DatasetSpec,
    Float,
    InputPath,
    Int,
    NonNegative,
    Positive,
    PositiveFloat,
    Section,
    Share,
    TokenizerSpec,
)
from flava_plugin.types import Modality

PIL_LIMIT = 89_478_485
"""Pixels beyond which PIL warns of a decompression bomb; beyond twice as many it refuses."""


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
        decoder: Who decodes JPEG: ``torchvision``, or ``pil``, which gives the same pixels and
            takes longer; ``draft`` is PIL at a half, quarter or eighth of the size where that is
            still three times the encoder's, fastest for photographs of some megapixels and 0.5 of
            255 off on average. PIL decodes all else, and what torchvision refuses.
        resize: Who makes the encoder's picture of a file's: ``torch``, or ``pil``, from which it
            differs by less than 0.01 of 255 on average and which takes ten times as long.
        codebook_view: Where the codebook's picture comes from: ``exact``: the decoded picture, as
            in torchmultimodal; ``shared``: the encoder's picture, where that is at least twice as
            large and no enlargement (0.3 of 255 off on average); ``device``: the encoder's picture
            on the device that trains, so that none is made nor copied before (the same, and 1 of
            255 off where pictures are enlarged).
        max_pixels: Pixels of the largest picture that is decoded, at most PIL's limit of twice the
            default; larger ones are bad samples.
    """

    size: Positive = 224
    codebook_size: Positive = 112
    crop: tuple[PositiveFloat, PositiveFloat] | None = (0.9, 1.0)
    flip: bool = False
    mean: tuple[Float, Float, Float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.26862954, 0.26130258, 0.27577711)
    codebook_range: tuple[Float, Float] = (0.0, 1.0)
    decoder: Literal["torchvision", "pil", "draft"] = "torchvision"
    resize: Literal["torch", "pil"] = "torch"
    codebook_view: Literal["exact", "shared", "device"] = "shared"
    max_pixels: Annotated[Positive, Field(le=2 * PIL_LIMIT)] = PIL_LIMIT

    @model_validator(mode="after")
    def _codebook_fits(self) -> ImageSection:
        if self.codebook_view == "device" and self.codebook_size > self.size:
            raise ValueError(
                f"codebook_view: device makes the codebook's picture ({self.codebook_size} pixels "
                f"a side) from the encoder's ({self.size}), which is smaller; take exact"
            )
        return self


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


class ShuffleSection(Section):
    """In which order a source is read.

    A dataset of files is shuffled as a whole. One of shards is read in ``streams`` places at once,
    each shuffled within a window: a rank then holds the shards of ``streams / ranks`` windows.

    Attributes:
        streams: Places at which shards are read at once; it divides ``global_batch``, and should be
            a multiple of the number of ranks. Null takes at most 256, and no more than an eighth of
            the batch.
        window: Samples of a stream that are shuffled with each other; null shuffles everything,
            for shards on a local disk.
        buckets: Global batches whose texts are dealt out by length, so that little is padding; 0
            for none.
    """

    streams: Positive | None = None
    window: Positive | None = 10_000
    buckets: Count = 0


class SourceSection(Section):
    """A stream of batches of one modality.

    Attributes:
        modality: What a batch of it holds.
        share: Its share of steps; null under a ``mixture.strategy`` with shares of its own.
        dataset: A registered dataset.
        codes: A folder of ``flava data codes``: the codebook's targets, computed before the run,
            for pictures that are neither cropped nor mirrored at random.
        shuffle: In which order it is read.
    """

    modality: Modality
    share: NonNegative | None = None
    dataset: DatasetSpec
    codes: InputPath | None = None
    shuffle: ShuffleSection = ShuffleSection()


class DataSection(Section):
    """What is read, and how.

    Attributes:
        global_batch: Rows of one optimiser step over all ranks and micro-batches (paper: 8192).
        per_gpu_batch: Rows of one micro-batch on one rank; null: ``global_batch / ranks``.
        workers: Reading processes of each rank; 0 reads in the training process.
        prefetch: Steps each worker reads ahead.
        bad_samples: How many unreadable samples a run puts up with before it stops.
        bad_share: Of the rows read, where it allows more than ``bad_samples``: for data too large
            to count by hand.
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
    bad_share: Share = 0.0
    tokenizer: TokenizerSpec
    image: ImageSection = ImageSection()
    text: TextSection = TextSection()
    masking: MaskingSection = MaskingSection()
    matching: MatchingSection = MatchingSection()
    sources: Annotated[dict[str, SourceSection], Field(min_length=1)]
