"""Whether a short text is English, without a model or a network, and the same everywhere."""

from __future__ import annotations

import re
from typing import Literal

English = Literal["stopwords", "ascii", "off"]
"""The rule: see ``is_english``."""

# Chosen by hand from the languages' articles, prepositions, pronouns and auxiliaries: first words
# that only English has; then some that others have too, so that one alone proves nothing; then
# those of other languages that are no English words.
_ENGLISH_TEXT = """
the and of with this that is are was were to from by at it its our we you they he she his her their
my your have has had been be will would can could which who what when where there these those into
onto over under after before between through during about than then not but if out off very some
all more most other it's i'm don't
"""
_UNSURE_TEXT = "a an in on as or for i me so up"
_OTHERS_TEXT = """
der das den dem ein eine einer einen und ist nicht mit auf für von zu im beim wir ich sie
het een niet voor naar zijn aan bij uit ook wij
le la les des du au aux et est dans sur avec pour une un par ce cette qui que nous vous
el los las del y es en con por para como su sus muy mi da na nos em um uma com não ao
il lo gli della dello dei di che è sono nel nella alla
og av på til fra det som är och att jag na się jest nie bir ve bu için yang
"""
_ENGLISH = frozenset(_ENGLISH_TEXT.split())
_UNSURE = frozenset(_UNSURE_TEXT.split())
_OTHERS = frozenset(_OTHERS_TEXT.split())
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_SHARE_ASCII = 0.9


def is_english(text: str, rule: English) -> bool:
    """Decide whether a text is English.

    ``stopwords``: at least 9 of 10 letters are ASCII, it has a function word that only English has
    or two that other languages share, and more of these than of twelve other languages' function
    words. A title without any is refused: its language does not show. ``ascii``: every letter is
    ASCII and there is one. ``off``: everything is taken.

    The rule that made PMD's YFCC100M subset is not published; a classifier may have.

    Args:
        text: The text.
        rule: How to decide.

    Returns:
        Whether it is.
    """
    if rule == "off":
        return True
    letters = [mark for mark in text if mark.isalpha()]
    ascii_letters = sum(mark.isascii() for mark in letters)
    if rule == "ascii" or not letters:
        return bool(letters) and ascii_letters == len(letters)
    if ascii_letters < _SHARE_ASCII * len(letters):
        return False
    words = _WORD.findall(text.lower())
    ours = sum(2 * (word in _ENGLISH) + (word in _UNSURE) for word in words)
    return ours >= 2 and ours > 2 * sum(word in _OTHERS for word in words)


def word_count(text: str) -> int:
    """Count the words of a text.

    Args:
        text: The text.

    Returns:
        Number of runs of letters, an apostrophe inside included; numbers are no words.
    """
    return len(_WORD.findall(text))
