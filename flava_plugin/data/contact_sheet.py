"""A page of pictures with their captions, so that somebody looks at the data before a run does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_TILE = 240
LARGE = 2 * _TILE
"""Pixels of a side that a tile can use; a larger picture need not be held whole."""

_GAP = 16
_TEXT_SIZE = 15
_LINE = 20
_CAPTION_LINES = 4
_PAPER, _INK, _FAINT, _BACK = "#ffffff", "#1c1c1c", "#8a8a8a", "#f0f0ee"
# Wide fonts of common systems, for letters that Pillow's own has not; the first that is there.
_FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "Arial.ttf")


class Exhibit(NamedTuple):
    """One tile of the sheet.

    Attributes:
        picture: In RGB; None where it cannot be read.
        caption: Below it.
        number: Of the sample, in small print.
    """

    picture: Image.Image | None
    caption: str
    number: int


def contact_sheet(exhibits: Sequence[Exhibit], title: str, columns: int = 6) -> Image.Image:
    """Draw a sheet.

    Args:
        exhibits: The tiles, row by row.
        title: On top.
        columns: Tiles of a row, at most.

    Returns:
        The sheet, in RGB.
    """
    font, small, large = _font(_TEXT_SIZE), _font(12), _font(20)
    columns = max(1, min(columns, len(exhibits)))
    wrapped = [wrap(e.caption, font, _TILE, _CAPTION_LINES) for e in exhibits]
    rows = [range(n, min(n + columns, len(exhibits))) for n in range(0, len(exhibits), columns)]
    has_pictures = any(each.picture is not None for each in exhibits)
    above = _TILE + 8 if has_pictures else 0
    heights = [above + 18 + _LINE * max(len(wrapped[n]) for n in row) + _GAP for row in rows]
    width = max(columns * (_TILE + _GAP) + _GAP, 2 * _TILE)
    sheet = Image.new("RGB", (width, 56 + sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    heading = wrap(title, large, width - 2 * _GAP, 1)
    draw.text((_GAP, _GAP), heading[0] if heading else "", _INK, large)
    top = 56
    for row, height in zip(rows, heights, strict=True):
        for column, n in enumerate(row):
            left = _GAP + column * (_TILE + _GAP)
            if has_pictures:
                _place(sheet, draw, exhibits[n].picture, (left, top), small)
            draw.text((left, top + above), f"{exhibits[n].number}", _FAINT, small)
            for line, text in enumerate(wrapped[n]):
                draw.text((left, top + above + 18 + line * _LINE), text, _INK, font)
        top += height
    return sheet


def wrap(text: str, font: Font, width: int, most: int) -> list[str]:
    """Break a text into lines that fit.

    Args:
        text: The text.
        font: Of the lines.
        width: Of a line, in pixels.
        most: Lines; what is left over is cut off, which three dots say.

    Returns:
        The lines. Words that are too long for a line, and scripts without spaces, are broken
        anywhere.
    """
    # far more than fits is not measured letter by letter; what cannot be printed is left out
    shown = "".join(mark if mark.isprintable() else " " for mark in text[: 4 * most * width // 10])
    lines: list[str] = []
    line = ""
    for word in shown.split():
        if line and font.getlength(f"{line} {word}") <= width:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width:
            end = next(n for n in range(len(word), 0, -1) if n == 1 or _fits(word[:n], font, width))
            lines.append(word[:end])
            word = word[end:]
        line = word
    lines += [line] if line else []
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(f"{last}\u2026") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last.rstrip()}\u2026"]
    return lines


def _fits(text: str, font: Font, width: int) -> bool:
    return font.getlength(text) <= width


def _place(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Image.Image | None,
    corner: tuple[int, int],
    font: Font,
) -> None:
    """Put a picture into the middle of its tile, whole."""
    left, top = corner
    draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), _BACK)
    if picture is None:
        draw.text((left + 10, top + _TILE // 2 - 8), "cannot be read", _FAINT, font)
        return
    scale = _TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # small drawings keep their pixels, photographs are smoothed
    how = Image.Resampling.NEAREST if scale >= 3 else Image.Resampling.LANCZOS
    fitted = picture.resize(size, how, reducing_gap=3.0 if scale < 1 else None)
    sheet.paste(fitted, (left + (_TILE - size[0]) // 2, top + (_TILE - size[1]) // 2))


def _font(size: int) -> Font:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow 10.0, or one without FreeType
        return ImageFont.load_default()
