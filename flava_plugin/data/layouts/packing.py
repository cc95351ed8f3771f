"""Sentences packed into texts of nearly the same number of tokens, so that little is padding."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from flava_plugin.data.layouts.gathering import Account
from flava_plugin.data.layouts.packed_texts import Packs
from flava_plugin.data.layouts.paragraphs import Ends, Paragraphs
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.layouts.sentences import sentence_spans
from flava_plugin.data.wordpiece import WordPieceTokenizer

Pack = Literal["full", "document", "off"]
"""What a text is: see ``pack``."""

_Count = Callable[[str], int]


class _Filling:
    """Texts in the making.

    Args:
        room: Most tokens of a text.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.filled = room
        self.digest = hashlib.blake2b(digest_size=8)
        self.columns = array("I"), array("Q"), array("I"), array("I"), array("I")

    @property
    def left(self) -> int:
        """Tokens that still go into the last text."""
        return self.room - self.filled

    def close(self) -> None:
        """Let the next piece start a text."""
        self.filled = self.room

    def add(self, file: int, address: int, place: int, words: str, tokens: int) -> None:
        """Add a piece to the last text, or start one with it where it does not fit."""
        size = len(words.encode("utf-8"))
        if self.left < max(tokens, 1):
            self.digest.update(b"\0")
            for column, value in zip(self.columns, (file, address, place, size, 0), strict=True):
                column.append(value)
            self.filled = 0
        else:
            self.columns[3][-1] += size + 1  # the blank between sentences
        self.digest.update(words.encode("utf-8"))
        self.filled += tokens
        self.columns[4][-1] = self.filled


def pack(
    files: Sequence[Paragraphs],
    account: Account,
    *,
    how: Pack,
    room: int,
    slack: int | None,
    tokenizer: WordPieceTokenizer,
    ends: Ends,
) -> tuple[Packs, str]:
    """Fill texts with consecutive sentences up to a number of tokens.

    ``full`` goes on over the ends of documents and files, as RoBERTa's FULL-SENTENCES does (Liu et
    al. 2019), but without its separator between documents: a text reaches the tokenizer as text, in
    which no special token can be written. ``document`` starts a new text with each document, as
    RoBERTa's DOC-SENTENCES, so that short documents leave padding. ``off`` makes each paragraph one
    text, however long.

    A sentence that does not fit starts the next text; it is cut between words instead where that
    would leave more than ``slack`` tokens empty, or where it has more tokens than a text holds.

    Args:
        files: The texts.
        account: Counts paragraphs and what is left out.
        how: What a text is.
        room: Most tokens of a text, [CLS] and [SEP] not counted.
        slack: Most tokens left empty for the sake of a whole sentence; None for any number, as
            RoBERTa has it.
        tokenizer: Counts tokens.
        ends: What a document of a text file is.

    Returns:
        Where the texts start, and a hash of all they say and where they are cut.
    """
    filling, count = _Filling(room), _counter(tokenizer)
    for number, file in enumerate(files):
        if how != "full":
            filling.close()
        for address, text in file.scan():
            account.seen += 1
            if isinstance(text, Dropped):
                account.drop(*text)
                if how == "document":
                    filling.close()
                continue
            if how == "off":
                filling.close()
                filling.add(number, address, 0, " ".join(text.split()), 0)
                continue
            if how == "document" and (ends == "lines" or not file.plain):
                filling.close()
            for start, end in sentence_spans(text):
                for place, words, tokens in _fitting(text, start, end, filling, slack, count):
                    filling.add(number, address, place, words, tokens)
    kinds = (np.uint32, np.uint64, np.uint32, np.uint32, np.uint32)
    columns: list[Any] = [np.frombuffer(c, t) for c, t in zip(filling.columns, kinds, strict=True)]
    return Packs(*columns), filling.digest.hexdigest()


def _fitting(
    text: str, start: int, end: int, filling: _Filling, slack: int | None, count: _Count
) -> Iterator[tuple[int, str, int]]:
    """A sentence, whole where it fits or may start the next text; else cut between words.

    Args:
        text: The paragraph.
        start: Where the sentence starts.
        end: Where it ends.
        filling: The last text, which the caller adds each piece to before it takes the next one.
        slack: See ``pack``.
        count: Counts tokens.

    Yields:
        Where each piece starts, its words and their tokens.
    """
    words = " ".join(text[start:end].split())
    if not words:
        return
    tokens, room = count(words), filling.room
    may_wait = tokens <= room and (slack is None or filling.left <= slack)
    if tokens <= filling.left or may_wait:
        yield start, words, tokens
        return
    limit, place, begun = filling.left or room, start, start
    held, filled = list[str](), 0
    for whole in text[start:end].split():
        place, word = text.index(whole, place), whole
        tokens = _of_word(word, room, count)
        if filled + tokens > limit:
            if held:
                yield begun, " ".join(held), filled
            filling.close()
            held, filled, limit = [], 0, room
        while tokens > room:  # a rule of dashes, an address: cut inside
            head = _head(word, room, count)
            yield place, word[:head], count(word[:head])
            filling.close()
            place, word = place + head, word[head:]
            tokens = _of_word(word, room, count)
        if not held:
            begun = place
        held.append(word)
        filled += tokens
        place += len(word)
    yield begun, " ".join(held), filled


def _head(word: str, room: int, count: _Count) -> int:
    """How many characters of a long word a text holds, one at least."""
    head = room
    while head > 1 and count(word[:head]) > room:
        head //= 2
    return head


def _of_word(word: str, room: int, count: _Count) -> int:
    """Tokens of a word; of one without end, which nobody needs to count, too many."""
    return room + 1 if len(word) > 16 * room else count(word)


def _counter(tokenizer: WordPieceTokenizer) -> _Count:
    def count(text: str) -> int:
        # a character may come apart into three (Hangul)
        return len(tokenizer.encode(text, 4 * len(text) + 2)) - 2

    return count
