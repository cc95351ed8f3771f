"""What the data layer asks of a tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """A registered tokenizer, built."""

    @property
    def pad_id(self) -> int:
        """Id of padding."""
        ...

    @property
    def mask_id(self) -> int:
        """Id that hides a token."""
        ...

    @property
    def special_ids(self) -> Collection[int]:
        """Ids that are never hidden and never put in place of another."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    def encode(self, text: str, max_length: int, second: str | None = None) -> list[int]:
        """Turn a text into at most ``max_length`` ids, [CLS] first and [SEP] last.

        A second text follows as in BERT: [CLS] A [SEP] B [SEP], cut by ``fit_pair``.
        """
        ...

    def words(self, ids: Sequence[int]) -> Sequence[int]:
        """Number the word of each token, the same for all pieces of a word."""
        ...


def fit_pair(first: Sequence[int], second: Sequence[int], room: int) -> tuple[int, int]:
    """Cut two texts to a length, a token at a time off the end of the longer one.

    That is BERT's ``_truncate_seq_pair`` (google-research/bert, ``run_classifier.py``): of two
    equally long texts the second loses a token.

    Args:
        first: Tokens of the first text.
        second: Tokens of the second text.
        room: Most tokens of both; without room, none is left.

    Returns:
        How many tokens of each stay.
    """
    one, two = len(first), len(second)
    surplus = one + two - max(room, 0)
    if surplus <= 0:
        return one, two
    # the longer text gives way until both are equal, then they take turns, the second first
    alone = min(surplus, abs(one - two))
    one, two = (one - alone, two) if one > two else (one, two - alone)
    rest = surplus - alone
    return one - rest // 2, two - (rest + 1) // 2
