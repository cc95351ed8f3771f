"""Text of any length, packed into texts of nearly the same length."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from flava_plugin.components.tokenizers import wordpiece
from flava_plugin.data.layouts.gathering import Account
from flava_plugin.data.layouts.packed_texts import PackedTexts
from flava_plugin.data.layouts.packing import Pack, pack
from flava_plugin.data.layouts.packs_file import key_of_packs, read_packs, write_packs
from flava_plugin.data.layouts.paragraphs import Ends, open_paragraphs
from flava_plugin.schema import Count, InputPath, Int, Share, expand_variables


def text_files(
    *,
    path: InputPath,
    text: str = "text",
    pack_as: Pack = "full",
    tokens: Annotated[Int, Field(ge=16)] = 512,
    slack: Count | None = 32,
    vocab: InputPath | None = None,
    lowercase: bool = True,
    documents: Ends = "lines",
    keep: Annotated[str, BeforeValidator(expand_variables)] | None = None,
    broken_lines: Share = 0.001,
) -> PackedTexts:
    """Text files, JSON lines or parquet: CCNews, BookCorpus and their like.

    The default packs consecutive sentences up to a number of tokens over the ends of documents,
    RoBERTa's FULL-SENTENCES without the separator. Counting tokens takes about six minutes for
    a gigabyte at each start; ``keep`` saves it from the second on, and so does packing the texts
    into shards.

    Args:
        path: A file, or a folder with ``*.txt`` (a paragraph or sentence a line), ``*.jsonl`` and
            ``*.parquet`` at any depth.
        text: Key or column of the text in JSON lines and parquet.
        pack_as: ``full``; ``document`` keeps documents apart (DOC-SENTENCES, more padding); ``off``
            makes each line or row a text, cut at ``data.text.text_length`` when it is used.
        tokens: Tokens of a text, [CLS] and [SEP] included; the same as ``data.text.text_length``.
        slack: Most tokens left empty so that a sentence stays whole; null leaves any number, as
            RoBERTa does (then 7.2 % of what is read is padding on the documentation of Python's
            library, in place of 1.6 %).
        vocab: Vocabulary of ``data.tokenizer``; null takes the embedded one, as ``wordpiece`` does.
        lowercase: As ``data.tokenizer`` says.
        documents: What a document of ``*.txt`` is, with ``pack_as: document``: ``lines``, each one,
            or ``blocks``, lines up to an empty one.
        keep: File (``.safetensors``) that remembers where texts start, until a file or an option
            changes; null remembers nothing.
        broken_lines: Share of lines that may be broken (no UTF-8, no JSON); ten may be anyway.

    Returns:
        The dataset. Empty lines are dropped and counted.

    Raises:
        ValueError: There is no text, or too much of it is broken.
    """
    files = open_paragraphs(path, text)
    tokenizer = wordpiece(vocab=vocab, lowercase=lowercase)
    words = "" if vocab is None else vocab.read_text("utf-8")
    key = key_of_packs(files, pack_as, tokens, str(slack), words, str(lowercase), documents, text)
    place = None if keep is None else Path(keep)
    if place is not None and (kept := read_packs(place, key, files)) is not None:
        return kept
    account = Account(str(path), broken_lines)
    packs, digest = pack(
        files,
        account,
        how=pack_as,
        room=tokens - 2,
        slack=slack,
        tokenizer=tokenizer,
        ends=documents,
    )
    account.judge()
    if not len(packs.files):
        raise ValueError(f"{path}: holds no text, in {account.seen} lines")
    account.log(len(packs.files))
    texts = PackedTexts(files, packs, digest, account.coverage(len(packs.files)))
    if place is not None:
        write_packs(place, key, texts)
    return texts
