"""Tokenizers a recipe can name."""

from __future__ import annotations

from pathlib import Path

from flava_plugin.data.wordpiece import WordPieceTokenizer, read_vocab
from flava_plugin.schema import InputPath

SHAPES_VOCAB = Path(__file__).parents[1] / "assets" / "shapes_vocab.txt"


def wordpiece(*, vocab: InputPath | None = None, lowercase: bool = True) -> WordPieceTokenizer:
    """BERT's tokenizer (Devlin et al. 2019): words, then the longest known pieces of each.

    Args:
        vocab: A BERT vocabulary file, one token per line, its id the line's number from 0; null
            takes that of the embedded ``shapes`` data.
        lowercase: Whether text is lower-cased and stripped of accents (``bert-base-uncased``).

    Returns:
        The tokenizer.

    Raises:
        ValueError: The file is no vocabulary.
    """
    return WordPieceTokenizer(read_vocab(vocab or SHAPES_VOCAB), lowercase=lowercase)
