"""What a plan assumes besides the recipe: how many GPUs of which kind, how long texts are."""

from __future__ import annotations

from dataclasses import dataclass

WORDS = 30_522
"""Vocabulary where the tokenizer's file is not here: ``bert-base-uncased``, as in the paper."""

CODES = 8192
"""Codes where the codebook's file is not here: DALL-E's, as in the paper (section 3.2)."""


@dataclass(frozen=True)
class Options:
    """The command line of ``flava plan``.

    Attributes:
        gpus: Ranks of the run.
        device: A key of ``devices.DEVICES``.
        gpus_per_node: Ranks that share a machine; None for the device's usual number.
        pair_tokens: Mean tokens of a caption; None for half of ``data.text.pair_length``.
        text_tokens: Mean tokens of a text of a text stream; None for half of
            ``data.text.text_length``.
        mfu: Share of the peak that matrix products reach; None for the device's assumption.
        link: GB/s and direction between the GPUs of a node; None for the device's.
        network: GB/s and direction that each GPU has between nodes; None for the device's.
        words: Size of the vocabulary where the tokenizer's file is not here.
        codes: Number of codes where the codebook's file is not here.
    """

    gpus: int = 1
    device: str = "h100"
    gpus_per_node: int | None = None
    pair_tokens: int | None = None
    text_tokens: int | None = None
    mfu: float | None = None
    link: float | None = None
    network: float | None = None
    words: int = WORDS
    codes: int = CODES
