"""WordPiece: encoding, vocabulary files, training. The one file that imports ``tokenizers``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

from flava_plugin.data.tokenizer import fit_pair

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPieceTokenizer:
    """Encodes texts and pairs of texts; see ``data.tokenizer.Tokenizer``.

    Args:
        tokens: The vocabulary in the order of ids.
        lowercase: Whether text is lower-cased.
    """

    def __init__(self, tokens: Sequence[str], *, lowercase: bool) -> None:
        ids = {token: number for number, token in enumerate(tokens)}
        self._tokenizer = Tokenizer(
            WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100)  # BERT's own limit
        )
        self._tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        self._tokenizer.decoder = WordPieceDecoder(prefix="##")
        self._continues = [token.startswith("##") for token in tokens]
        self.vocab_size = len(tokens)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            ids[name] for name in SPECIAL
        )
        self.special_ids = frozenset(ids[name] for name in SPECIAL)

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
        outside = (self.cls_id, self.sep_id, self.pad_id)
        numbers = []
        word = -1
        for position, token in enumerate(ids):
            if token in outside:
                numbers.append(-1)
                continue
            if not (self._continues[token] and position and numbers[-1] == word >= 0):
                word += 1
            numbers.append(word)
        return numbers

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text.

        Args:
            ids: Ids.

        Returns:
            The text, pieces joined; [CLS], [SEP] and [PAD] are left out, [MASK] and [UNK] stay.
        """
        outside = (self.cls_id, self.sep_id, self.pad_id)
        kept = [int(token) for token in ids if token not in outside]
        text: str = self._tokenizer.decode(kept, skip_special_tokens=False)
        return text

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def read_vocab(path: Path) -> list[str]:
    """Read a vocabulary file.

    Args:
        path: One token per line, in UTF-8.

    Returns:
        Tokens in the order of ids.

    Raises:
        ValueError: It is not UTF-8, has Windows line ends, empty or repeated lines, or lacks a
            special token; the text says which.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"vocabulary {path}: no UTF-8 text ({error}); save it as UTF-8") from error
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        raise ValueError(
            f"vocabulary {path}:{line}: Windows line end (CR), which would become part of every "
            f"token; convert the file, for instance with: sed -i 's/\\r$//' {path}"
        )
    tokens = text.removesuffix("\n").split("\n")
    first: dict[str, int] = {}
    for number, token in enumerate(tokens, start=1):
        if not token:
            raise ValueError(f"vocabulary {path}:{number}: empty line; ids are line numbers")
        if token in first:
            raise ValueError(
                f"vocabulary {path}:{number}: '{token}' stands in line {first[token]} already"
            )
        first[token] = number
    missing = [name for name in SPECIAL if name not in first]
    if missing:
        raise ValueError(
            f"vocabulary {path} lacks {', '.join(missing)}; take a BERT vocab.txt, or train one "
            "with: flava data train-vocab"
        )
    return tokens


def train_vocab(
    texts: Sequence[str], size: int, *, lowercase: bool = True, used_only: bool = False
) -> list[str]:
    """Train a WordPiece vocabulary.

    Args:
        texts: What to fit it to.
        size: Most tokens, the special ones included.
        lowercase: Whether text is lower-cased.
        used_only: Drop the pieces that encoding ``texts`` never produces. Their encoding stays the
            same, but words of other texts may become [UNK].

    Returns:
        Tokens in the order of ids: special ones, then words, then ##pieces, each sorted.

    Raises:
        ValueError: There is no text, or ``size`` leaves no room for its characters.
    """
    if not any(text.strip() for text in texts):
        raise ValueError("no text to train a vocabulary on; every line is empty")
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    inner = _inner_characters(tokenizer, texts)
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=2,
        # the trainer breaks ties by id and numbers these in the order of a random hash otherwise
        special_tokens=[*SPECIAL, *inner],
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    found = set(tokenizer.get_vocab())
    if len(found) > size:
        raise ValueError(
            f"a vocabulary of {size} tokens has no room for the {len(found) - len(SPECIAL)} single "
            f"characters of the texts; ask for {2 * len(found)} or more"
        )
    if used_only:
        found = _used(found, texts, lowercase)
    return _in_order(found)


def _inner_characters(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """``##c`` for every character c that words have after their first, sorted."""
    characters: set[str] = set()
    for text in set(texts):
        clean = tokenizer.normalizer.normalize_str(text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(clean):
            characters.update(word[1:])
    return [f"##{character}" for character in sorted(characters)]


def _used(found: set[str], texts: Sequence[str], lowercase: bool) -> set[str]:
    """Those tokens that the encoding of some text holds."""
    tokens = _in_order(found)
    encoder = WordPieceTokenizer(tokens, lowercase=lowercase)
    length = max(map(len, texts)) + 2
    return {tokens[number] for text in set(texts) for number in encoder.encode(text, length)}


def _in_order(found: set[str]) -> list[str]:
    """Special tokens, then words, then ##pieces, each sorted."""
    return [*SPECIAL, *sorted(found - set(SPECIAL), key=lambda token: (token[:2] == "##", token))]
