"""Drawings of the report as text: line charts in SVG, pictures as PNG data URIs."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 38
MAX_PIXELS = 224
MAX_POINTS = 600


def line_chart(steps: Sequence[float], values: Sequence[float], *, title: str, unit: str) -> str:
    """Draw one series over the steps: the logged values pale, their running mean on top.

    Args:
        steps: Of each value, rising.
        values: What was logged; values that are not finite are left out.
        title: What it shows, for screen readers.
        unit: Label of the vertical axis.

    Returns:
        An ``<svg>`` element, coloured by the page's ``raw``, ``mean``, ``grid`` and ``label``
        classes; a line of text where there is nothing to draw.
    """
    points = [(x, y) for x, y in zip(steps, values, strict=True) if math.isfinite(y)]
    if len(points) < 2:
        return '<p class="note">fewer than two points were logged</p>'
    smooth = _thin(running_mean(points))
    points = _thin(points)
    x_ticks = ticks(0, points[-1][0], 4)
    lowest, highest = min(y for _, y in points), max(y for _, y in points)
    y_ticks = ticks(lowest, highest, 4)
    x_span = max(points[-1][0], x_ticks[-1]) or 1
    y_low, y_high = y_ticks[0], max(y_ticks[-1], highest)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / x_span
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - y_low) / (y_high - y_low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(_label(LEFT - 6, y + 4, number(tick), "end"))
    for tick in x_ticks:
        x, _ = place(tick, y_low)
        parts.append(_label(x, HEIGHT - BOTTOM + 16, number(tick), "middle"))
    parts.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "step", "middle"))
    turn = f'transform="rotate(-90 11 {(TOP + HEIGHT - BOTTOM) / 2:.0f})"'
    parts.append(_label(11, (TOP + HEIGHT - BOTTOM) / 2, unit, "middle", turn))
    for style, series in (("raw", points), ("mean", smooth)):
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in series)
        parts.append(f'<polyline class="{style}" points="{path}"/>')
    last_x, last_y = smooth[-1]
    parts.append(
        '<circle class="end" cx="{:.1f}" cy="{:.1f}" r="3.5">'.format(*place(last_x, last_y))
    )
    parts.append(f"<title>step {number(last_x)}: {last_y:.3f}</title></circle></svg>")
    return "".join(parts)


def _label(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="label" {where} {more}>{escape(text)}</text>'


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = math.ceil(len(points) / MAX_POINTS)
    return points[:-1:every] + points[-1:]


def running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Smooth a series by the mean over a centred window of about a twentieth of it.

    Args:
        points: Steps and values.

    Returns:
        The same steps with smoothed values.
    """
    reach = len(points) // 40
    sums = [0.0, *accumulate(y for _, y in points)]
    smooth = []
    for index, (x, _) in enumerate(points):
        half = min(reach, index, len(points) - 1 - index)  # narrower at the ends, never lopsided
        first, last = index - half, index + half + 1
        smooth.append((x, (sums[last] - sums[first]) / (last - first)))
    return smooth


def ticks(low: float, high: float, count: int) -> list[float]:
    """Choose round numbers that span a range.

    Args:
        low: Smallest value.
        high: Largest value.
        count: About how many steps.

    Returns:
        At least two ticks; the first is at most ``low`` and the last less than one step under
        ``high``.
    """
    span = high - low or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / count))
    size *= next(factor for factor in (1, 2, 5, 10) if span / (size * factor) <= count + 0.5)
    first = math.floor(low / size + 1e-9)
    last = max(first + 1, math.floor(high / size + 1e-9))
    return [index * size for index in range(first, last + 1)]


def number(value: float) -> str:
    """Write a tick.

    Args:
        value: The tick.

    Returns:
        Such as ``0.25``, ``40`` or ``12k``.
    """
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{round(value, 6):g}"


def picture(image: Image.Image, text: str = "") -> str:
    """Embed a picture, shrunk to ``MAX_PIXELS`` where it is larger.

    Args:
        image: Any picture.
        text: What it shows, for screen readers.

    Returns:
        An ``<img>`` element that holds the picture itself. Small pictures get class ``pixels``,
        which the page enlarges without blurring.
    """
    small = max(image.size) < MAX_PIXELS
    shown = image.convert("RGB")
    shown.thumbnail((MAX_PIXELS, MAX_PIXELS))
    stream = io.BytesIO()
    shown.save(stream, format="PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    style = ' class="pixels"' if small else ""
    return f'<img{style} alt="{escape(text)}" src="data:image/png;base64,{data}">'
