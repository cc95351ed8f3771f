"""What kind of picture some bytes are, by their first bytes and never by a name."""

from __future__ import annotations

FORMATS = ("", "jpg", "png", "webp", "gif", "bmp", "tif", "avif", "jp2")
"""Extension by the number that an index keeps; 0 is no picture. Numbers never change."""

EXTENSIONS = frozenset(
    {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2", "jpe", "jfif"}
)
"""Ends of names that say a member is a picture."""

NEEDED = 16
"""First bytes that ``format_of`` looks at."""


def format_of(head: bytes) -> int:
    """Tell a picture's format, as Pillow's own readers tell it.

    Args:
        head: Its first ``NEEDED`` bytes, or all.

    Returns:
        A place in ``FORMATS``; 0 where it is none of these.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return 1
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return 2
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return 3
    if head.startswith((b"GIF87a", b"GIF89a")):
        return 4
    if head.startswith(b"BM"):
        return 5
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return 6
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return 7
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return 8
    return 0
