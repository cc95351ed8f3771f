"""Where the sentences of a text end."""

from __future__ import annotations

import re
from collections.abc import Iterator

_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|cf|fig|no|vol|inc|jr|sr|gen|col|capt|sen|rep)"
    r"|\b[A-Za-z])\.\s+$",
    re.IGNORECASE,
)


def sentence_spans(text: str, *, lower_starts: bool = False) -> Iterator[tuple[int, int]]:
    """Cut a text into sentences.

    A sentence ends at ``.``, ``!`` or ``?``, closing quotes and brackets after it included, where
    space follows; not after a common abbreviation or an initial, and not before a lower-case
    letter.

    Args:
        text: The text.
        lower_starts: Whether a sentence may start with a lower-case letter, as transcripts do.

    Yields:
        Start and end of each sentence, the space behind it included: together they are the text.
    """
    start = 0
    for found in _END.finditer(text):
        end = found.end()
        following = text[end : end + 1]
        if not following or (following.islower() and not lower_starts):
            continue
        if _ABBREVIATION.search(text[max(start, end - 16) : end]):
            continue
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def sentences(text: str, *, lower_starts: bool = False) -> list[str]:
    """Cut a text into sentences.

    Args:
        text: The text.
        lower_starts: Whether a sentence may start with a lower-case letter.

    Returns:
        The sentences without the space around them, none empty.
    """
    spans = sentence_spans(text, lower_starts=lower_starts)
    found = (text[start:end].strip() for start, end in spans)
    return [sentence for sentence in found if sentence]
