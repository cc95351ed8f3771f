"""Large JSON files: whole ones, and arrays item by item."""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flava_plugin.data.layouts.lines import open_any

_CHUNK = 1 << 20
_LARGEST = 1 << 28
"""Characters of one item of an array at most; it stops the search for an end that never comes."""


def load(path: Path) -> Any:
    """Read a JSON file whole.

    Args:
        path: The file, in UTF-8; it may be compressed.

    Returns:
        What it holds.

    Raises:
        ValueError: It is missing or no JSON.
    """
    try:
        with open_any(path) as file:
            return json.loads(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: no JSON ({error}); fetch the file again") from error


def array_items(path: Path) -> Iterator[Any]:
    """Read the items of a file that is one JSON array, without holding them all.

    Args:
        path: The file, in UTF-8; it may be compressed.

    Yields:
        The items in order.

    Raises:
        ValueError: The file is no array, or is damaged or cut short; the text says after which
            item.
    """
    decoder = json.JSONDecoder()
    text, place, count, wanted = "", 0, 0, _CHUNK
    try:
        with open_any(path) as file:
            decode = codecs.getincrementaldecoder("utf-8-sig")().decode
            text = decode(file.read(_CHUNK)).lstrip()
            if not text.startswith("["):
                raise ValueError("it does not start with '['")
            place = 1
            while True:
                place = _skip(text, place)
                end = _item_end(decoder, text, place)
                if end is not None:
                    item, place = end
                    if place < len(text) and text[place] == "]" and item is _NOTHING:
                        return
                    if item is not _NOTHING:
                        yield item
                        count, wanted = count + 1, _CHUNK
                        continue
                raw = file.read(wanted)
                if not raw or len(text) - place > _LARGEST:
                    raise ValueError("its end is missing, or what follows is no JSON")
                text, place, wanted = text[place:] + decode(raw), 0, wanted * 2
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path}: no JSON array after item {count} ({error}); fetch the file again"
        ) from error


_NOTHING = object()


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n,":
        place += 1
    return place


def _item_end(decoder: json.JSONDecoder, text: str, place: int) -> tuple[Any, int] | None:
    """The item at a place and where it ends; ``_NOTHING`` at the array's end; None for more text.

    A number's end shows only by what follows it.
    """
    if place >= len(text):
        return None
    if text[place] == "]":
        return _NOTHING, place
    try:
        item, end = decoder.raw_decode(text, place)
    except json.JSONDecodeError:
        return None
    return (item, end) if end < len(text) else None
