"""YFCC100M with FLAVA's filter: English text of more than two words, description before title."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote_plus

from flava_plugin.data.layouts.delimited import tab_rows
from flava_plugin.data.layouts.english import English, is_english, word_count
from flava_plugin.data.layouts.lines import json_lines
from flava_plugin.data.layouts.record import Dropped, Record

COLUMNS = 25
_HASH, _TITLE, _DESCRIPTION, _MARKER = 2, 8, 9, 24
_TAG = re.compile(r"<[^<>]*>")
_HEX = re.compile(r"[0-9a-f]{6,64}")

Text = Literal["description", "title"]


class TextFilter(NamedTuple):
    """Which text of a photograph is its caption.

    Attributes:
        texts: The texts in the order they are tried; the first that passes is taken.
        english: How English is told.
        min_words: Fewest words (paper: more than two).
    """

    texts: Sequence[Text] = ("description", "title")
    english: English = "stopwords"
    min_words: int = 3

    def caption(self, values: dict[Text, str], where: str) -> str | Dropped:
        """Choose a caption.

        Args:
            values: The texts.
            where: File and line.

        Returns:
            The caption, or why there is none: what the first text that is there lacks.
        """
        fault: Dropped | None = None
        for text in filter(None, (values[name] for name in self.texts)):
            if word_count(text) < self.min_words:
                fault = fault or Dropped("too few words", where)
            elif not is_english(text, self.english):
                fault = fault or Dropped("not English", where)
            else:
                return text
        return fault or Dropped("no text", where)


def yfcc_records(path: Path, chosen: TextFilter) -> Iterator[Record | Dropped]:
    """Read ``yfcc100m_dataset`` (25 columns, tab-separated, plain or bzip2), or JSON lines.

    Columns from 0: 2 the hash, 8 the title, 9 the description (both URL-encoded, with HTML in
    them), 24 is 0 for photographs and 1 for videos, which are left out. A photograph is
    ``abc/def/abcdef....jpg`` by its hash, as the public bucket lays it; ``abcdef....jpg`` is tried
    too. JSON lines (``*.jsonl``, as Hugging Face's PMD keeps its subset) have ``text`` or
    ``caption``, taken as it is, or ``title`` and ``description``, filtered; and ``hash`` (or
    ``key``), or ``image``, a path.

    Args:
        path: The file.
        chosen: Which text is the caption.

    Yields:
        A record each.
    """
    if ".jsonl" in path.suffixes:
        yield from _from_json(path, chosen)
        return
    for row in tab_rows(path, COLUMNS):
        if isinstance(row, Dropped):
            yield row
        elif row.fields[_MARKER].strip() != "0":
            yield Dropped("no photograph", row.where)
        else:
            texts = {"description": row.fields[_DESCRIPTION], "title": row.fields[_TITLE]}
            yield _photograph(row.fields[_HASH], _decoded(texts), chosen, row.where)


def _from_json(path: Path, chosen: TextFilter) -> Iterator[Record | Dropped]:
    for line in json_lines(path):
        if isinstance(line, Dropped):
            yield line
            continue
        row = line.row
        ready = next((row[k] for k in ("text", "caption") if isinstance(row.get(k), str)), None)
        texts = {k: row[k] if isinstance(row.get(k), str) else "" for k in ("description", "title")}
        text = ready if ready is not None else chosen.caption(_decoded(texts), line.where)
        if isinstance(text, Dropped):
            yield text
            continue
        key = next((row[k] for k in ("hash", "key") if isinstance(row.get(k), str)), None)
        if key is not None:
            yield _by_hash(key, text, line.where)
        elif isinstance(row.get("image"), str):
            yield Record(row["image"], text, None, line.where)
        else:
            yield Dropped("broken line", f"{line.where}: has neither 'hash', 'key' nor 'image'")


def _photograph(
    key: str, texts: dict[Text, str], chosen: TextFilter, where: str
) -> Record | Dropped:
    text = chosen.caption(texts, where)
    return text if isinstance(text, Dropped) else _by_hash(key, text, where)


def _by_hash(key: str, text: str, where: str) -> Record | Dropped:
    key = key.strip().lower()
    if not _HEX.fullmatch(key):
        return Dropped("broken line", f"{where}: {key[:40]!r} is no hash of a photograph")
    return Record(f"{key[:3]}/{key[3:6]}/{key}.jpg", text, None, where, (f"{key}.jpg",))


def _decoded(texts: dict[str, str]) -> dict[Text, str]:
    """URL-encoding, HTML's tags and its entities taken off, space reduced."""
    plain = {name: html.unescape(_TAG.sub(" ", unquote_plus(text))) for name, text in texts.items()}
    return {
        "description": " ".join(plain["description"].split()),
        "title": " ".join(plain["title"].split()),
    }
