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

    def encode(self, text: str, max_length: int) -> list[int]:
        """Turn a text into at most ``max_length`` ids, [CLS] first and [SEP] last."""
        ...

    def words(self, ids: Sequence[int]) -> Sequence[int]:
        """Number the word of each token, the same for all pieces of a word."""
        ...
