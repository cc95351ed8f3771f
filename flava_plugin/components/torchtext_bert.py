"""torchtext's BERT tokenizer, with the ids of ``wordpiece``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from flava_plugin.components.torchtext_library import HOW, bert_encoder, why_it_does_not_load
from flava_plugin.data.tokenizer import fit_pair
from flava_plugin.data.wordpiece import WordPieceTokenizer, read_vocab
from flava_plugin.schema import InputPath

_OLD = unicodedata.ucd_3_2_0
_LONGEST = 100  # bytes of a word for torchtext, characters of one for BERT; beyond, it is [UNK]
_BLANKS = re.compile(r"[ \t\n\r]+")


def _needs_torchtext(path: Path) -> Path:
    """Refuse the recipe, before anything is built, where torchtext does not load."""
    if (why := why_it_does_not_load()) is not None:
        raise ValueError(f"{why}; {HOW}; or say type: wordpiece, which gives the same ids here")
    return path


VocabFile = Annotated[InputPath, AfterValidator(_needs_torchtext)]


def torchtext_bert(*, vocab: VocabFile, lowercase: bool = True) -> TorchtextBert:
    """BERT's tokenizer as torchtext has it, the same ids as ``wordpiece``; needs torch 2.3.

    Args:
        vocab: A BERT vocabulary file, one token per line, its id the line's number from 0.
        lowercase: Whether text is lower-cased and stripped of accents (``bert-base-uncased``).

    Returns:
        The tokenizer.

    Raises:
        ValueError: The file is no vocabulary.
    """
    return TorchtextBert(read_vocab(vocab), lowercase)


class TorchtextBert:
    """Encodes texts and pairs by torchtext; see ``data.tokenizer.Tokenizer``.

    Where torchtext is known to differ from BERT's tokenizer, the text is encoded by ``wordpiece``
    instead, so that a recipe may name either one: characters that Unicode has changed or added
    since version 3.2 (emoji, new scripts), on which the two libraries' tables differ, and words
    that are short in characters but long in bytes. NUL, at which torchtext stops reading, is taken
    out, as BERT does.

    Args:
        tokens: The vocabulary in the order of ids.
        lowercase: Whether text is lower-cased.
    """

    def __init__(self, tokens: Sequence[str], lowercase: bool) -> None:
        self._tokens = list(tokens)
        self._lowercase = lowercase
        self._encoder = bert_encoder(tokens, lowercase=lowercase)
        self._exact = WordPieceTokenizer(tokens, lowercase=lowercase)
        self.vocab_size = self._exact.vocab_size
        self.pad_id, self.unk_id = self._exact.pad_id, self._exact.unk_id
        self.cls_id, self.sep_id = self._exact.cls_id, self._exact.sep_id
        self.mask_id = self._exact.mask_id
        self.special_ids = self._exact.special_ids

    def __reduce__(self) -> tuple[Any, ...]:
        return TorchtextBert, (self._tokens, self._lowercase)

    def encode(self, text: str, max_length: int, second: str | None = None) -> list[int]:
        """Turn a text into ids.

        Args:
            text: The text. A special token's name in it is read as brackets and a word.
            max_length: Most ids, at least 2, or 3 with a second text; what is longer is cut off
                before [SEP], of two texts off the longer one (``data.tokenizer.fit_pair``).
            second: What follows the text after [SEP], or None.

        Returns:
            [CLS], the text's ids, [SEP]; then the second text's ids and another [SEP].
        """
        ids = self._pieces(text)
        if second is None:
            return [self.cls_id, *ids[: max_length - 2], self.sep_id]
        more = self._pieces(second)
        one, two = fit_pair(ids, more, max_length - 3)
        return [self.cls_id, *ids[:one], self.sep_id, *more[:two], self.sep_id]

    def words(self, ids: Sequence[int]) -> list[int]:
        """Number the word of each token.

        Args:
            ids: Ids of one text.

        Returns:
            One number per id, the same for all pieces of a word; -1 for [CLS], [SEP] and [PAD].
        """
        return self._exact.words(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text.

        Args:
            ids: Ids.

        Returns:
            The text, pieces joined; [CLS], [SEP] and [PAD] are left out, [MASK] and [UNK] stay.
        """
        return self._exact.decode(ids)

    def _pieces(self, text: str) -> list[int]:
        text = text.replace("\0", "")
        if not reads_alike(text):
            return self._exact.encode(text, len(text.encode()) + 2)[1:-1]
        return [int(number) for number in self._encoder(text)]


def reads_alike(text: str) -> bool:
    """Say whether torchtext is sure to split a text as BERT's tokenizer does.

    Args:
        text: A text without NUL.

    Returns:
        Whether every character means today what it meant in Unicode 3.2, the oldest table that
        Python has, and no word is too long in bytes for torchtext.
    """
    if text.isascii():
        return True
    if not all(map(_is_settled, set(text))):
        return False
    # torchtext counts a word's bytes with its accents apart where it lower-cases, else as they are
    words = _BLANKS.split(text) + _BLANKS.split(unicodedata.normalize("NFD", text))
    return all(len(word) * 4 <= _LONGEST or len(word.encode()) <= _LONGEST for word in words)


@lru_cache(maxsize=65536)
def _is_settled(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind not in ("Cn", "Cs", "Zl", "Zp") and all(
        getattr(_OLD, of)(character) == getattr(unicodedata, of)(character)
        for of in ("category", "decomposition", "combining")
    )
