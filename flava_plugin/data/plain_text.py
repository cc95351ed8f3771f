"""When two captions count as the same."""

from __future__ import annotations


def plain(text: str | None) -> str:
    """Reduce a caption to what makes it different from another.

    Args:
        text: A caption or None.

    Returns:
        Without case and without spaces that separate nothing; empty for None.
    """
    return " ".join((text or "").casefold().split())
