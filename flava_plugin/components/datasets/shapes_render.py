"""Draws scenes of the embedded data, each thing only inside its own window."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.components.datasets.shapes_scene import SIDE, Scene, Thing

Floats = NDArray[np.float32]

PALETTE: Floats = np.array(
    [
        (220, 40, 40),
        (50, 170, 60),
        (50, 80, 220),
        (235, 215, 50),
        (150, 50, 190),
        (245, 140, 30),
        (60, 210, 220),
        (240, 240, 240),
    ],
    np.float32,
)
"""(8, 3) the colours in the order of ``COLORS``, of 255."""

NOISE = 0.035
"""The pixel noise is uniform between minus and plus this, of a range of 1."""

_GRID = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
_SLOPE = _GRID / np.float32(SIDE) - np.float32(0.5)


def render(scene: Scene) -> Image.Image:
    """Draw a scene.

    Args:
        scene: A scene.

    Returns:
        An RGB picture of ``SIDE`` x ``SIDE`` pixels; the same for the same scene, always.
    """
    canvas = np.random.default_rng(scene.noise).random((3, SIDE, SIDE), dtype=np.float32)
    canvas *= np.float32(255 * 2 * NOISE)
    across, down = np.float32(255 * scene.slope[0]), np.float32(255 * scene.slope[1])
    canvas += across * _SLOPE + (down * _SLOPE)[:, None]
    for plane, light in zip(canvas, scene.background, strict=True):
        plane += np.float32(255 * (light - NOISE))
    for thing in scene.things:
        _draw(canvas, thing)
    np.maximum(canvas, 0, out=canvas)
    np.minimum(canvas, 255, out=canvas)
    return Image.fromarray(np.ascontiguousarray(canvas.astype(np.uint8).transpose(1, 2, 0)))


def _draw(canvas: Floats, thing: Thing) -> None:
    """Blend a thing into a (3, H, W) canvas."""
    reach = int(thing.radius) + 3
    top, left = max(0, int(thing.y) - reach), max(0, int(thing.x) - reach)
    window = canvas[:, top : int(thing.y) + reach + 1, left : int(thing.x) + reach + 1]
    height, width = window.shape[1:]
    dx = _GRID[left : left + width] - np.float32(thing.x)
    dy = (_GRID[top : top + height] - np.float32(thing.y))[:, None]
    cos, sin = np.float32(math.cos(thing.angle)), np.float32(math.sin(thing.angle))
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    cover = np.float32(0.5) - _distance(thing.shape, thing.radius, u, v)
    cover = np.minimum(np.maximum(cover, 0), 1)
    color = PALETTE[thing.color][:, None, None]
    if thing.texture:
        color = color * _texture(thing, u, v)
    window += cover * (color - window)


def _distance(shape: int, radius: float, u: Floats, v: Floats) -> Floats:
    """Signed distance in pixels, negative inside, from the outline of a shape around (0, 0)."""
    r = np.float32(radius)
    distance: Floats
    if shape in (0, 4):
        distance = np.sqrt(u * u + v * v)
        if shape == 0:  # circle
            distance = distance - r
        else:  # ring
            distance = np.abs(distance - r * np.float32(0.78)) - r * np.float32(0.22)
        return distance
    across, down = np.abs(u), np.abs(v)
    if shape == 1:  # square
        distance = np.maximum(across, down) - r * np.float32(0.88)
    elif shape == 2:  # triangle
        slant = across * np.float32(0.866) - v * np.float32(0.5) - r * np.float32(0.5)
        distance = np.maximum(v - r * np.float32(0.8), slant)
    elif shape == 3:  # cross
        arm = r * np.float32(0.3)
        distance = np.minimum(
            np.maximum(across - r, down - arm), np.maximum(down - r, across - arm)
        )
    else:  # diamond
        distance = (across + down) * np.float32(0.707) - r * np.float32(0.72)
    return distance


def _texture(thing: Thing, u: Floats, v: Floats) -> Floats:
    """(H, W) brightness of a thing's surface."""
    if thing.texture == 1:
        light = np.sin((u + v) * np.float32(1.6) + np.float32(thing.phase)) > 0
    else:
        light = np.sin(u * np.float32(1.9)) * np.sin(v * np.float32(1.9)) < np.float32(0.05)
    surface: Floats = np.where(light, np.float32(1), np.float32(0.25))
    return surface
