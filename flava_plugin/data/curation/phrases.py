"""Which entries of a list stand in a caption as whole words, in the manner of MetaCLIP.

MetaCLIP puts spaces around some marks and looks for " entry " in the text by Aho-Corasick. As both
ends of every match are spaces, the same is found by looking up runs of words in a table, which
needs no library and a fraction of the memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# MetaCLIP's own lists (metaclip/substr_matching.py).
_MARKS = {ord(mark): f" {mark} " for mark in ",.;:?!`"}
_SPACES = {ord(mark): " " for mark in "\t\n\r"}
_TABLE = _MARKS | _SPACES


def spaced(text: str) -> str:
    """Set punctuation apart from words.

    Args:
        text: A caption.

    Returns:
        The caption with a space at both ends and around marks; line ends and tabs are spaces.
    """
    return f" {text.translate(_TABLE)} "


class Phrases:
    """A list of entries, ready to be looked for.

    Args:
        entries: The entries, none twice.
        ignore_case: Whether ``Dog`` is ``dog``.
    """

    def __init__(self, entries: Sequence[str], *, ignore_case: bool = False) -> None:
        self.entries = tuple(entries)
        self.ignore_case = ignore_case
        self._numbers: dict[str, int] = {}
        lengths: dict[str, set[int]] = {}
        for number, entry in enumerate(entries):
            phrase = entry.lower() if ignore_case else entry
            self._numbers.setdefault(phrase, number)
            first, *others = phrase.split(" ")
            lengths.setdefault(first, set()).add(1 + len(others))
        self._lengths = {first: tuple(sorted(known)) for first, known in lengths.items()}

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.entries)

    def found_in(self, text: str) -> list[int]:
        """Look for the entries.

        Args:
            text: A caption.

        Returns:
            Numbers of those that stand in it, ascending, none twice.
        """
        words = spaced(text.lower() if self.ignore_case else text)[1:-1].split(" ")
        found = set()
        for place, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                phrase = word if length == 1 else " ".join(words[place : place + length])
                number = self._numbers.get(phrase)
                if number is not None:
                    found.add(number)
        return sorted(found)

    def marks(self) -> NDArray[np.uint64]:
        """Hash each entry, for chance that does not depend on an entry's place in the list.

        Returns:
            (entries,) uint64.
        """
        digests = (blake2b(entry.encode(), digest_size=8).digest() for entry in self.entries)
        return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)

    def unreachable(self) -> int:
        """Count the entries that no caption can match.

        Returns:
            Entries with a mark that captions have set apart, such as ``St. Louis``.
        """
        return sum(spaced(entry) != f" {entry} " for entry in self.entries)


def read_entries(path: Path) -> tuple[list[str], dict[str, int]]:
    """Read a list of entries.

    Args:
        path: Text with an entry on each line, or ``*.json``: a list of texts, as MetaCLIP's.

    Returns:
        The entries without the space around them, and how many were empty or stood there twice.

    Raises:
        ValueError: There is no such file, it is something else, or it has no entry.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
        lines = json.loads(content) if path.suffix == ".json" else content.splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; name a file of entries") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no list of entries ({error})") from error
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"{path}: is no list of texts; write one entry on each line")
    entries = [line.strip() for line in lines]
    kept = list(dict.fromkeys(entry for entry in entries if entry))
    if not kept:
        raise ValueError(f"{path}: has no entry; write one on each line")
    empty = sum(not entry for entry in entries)
    return kept, {"empty": empty, "repeated": len(entries) - empty - len(kept)}
