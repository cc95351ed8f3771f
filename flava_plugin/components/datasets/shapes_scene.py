"""Scenes of the embedded data: what stands where, as a function of a random generator.

A scene is a list of things in the cells of a 3x3 grid; captions, questions and pictures are all
made from it, so that what a text says can be checked exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
TEXTURES = ("plain", "striped", "dotted")
SIZES = ("small", "large")
CELL = 16
"""Pixels of a side of a cell: 2x2 patches of 8 pixels."""

SIDE = 3 * CELL
"""Pixels of a side of a picture."""

Split = Literal["train", "dev", "publish"]
Variant = Literal["plain", "grid"]
Unseen = Literal["none", "some", "all"]
Combination = tuple[int, int]
"""Number of a colour and number of a shape."""

Facts = frozenset[tuple[int, int, int, int]]
"""Colour, shape, row and column of every thing of a scene."""

UNSEEN: dict[str, tuple[Combination, ...]] = {
    "train": (),
    "dev": tuple((color, (2 - color) % 6) for color in range(6)),
    "publish": tuple((color, (5 - color) % 6) for color in range(2, 8)),
}
"""Combinations no training stream shows or names; each shape once in each set, no colour twice."""

SEEN: tuple[Combination, ...] = tuple(
    (color, shape)
    for color in range(len(COLORS))
    for shape in range(len(SHAPES))
    if (color, shape) not in UNSEEN["dev"] + UNSEEN["publish"]
)

STREAMS = {"pairs": 0, "images": 1, "sentences": 2, "questions": 3, "entailment": 4}
SPLITS = {"train": 0, "dev": 1, "publish": 2}


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        color: Index of ``COLORS``.
        shape: Index of ``SHAPES``.
        row: Row of its cell, 0 at the top.
        column: Column of its cell, 0 at the left.
        size: Index of ``SIZES``.
        texture: Index of ``TEXTURES``.
        x: Centre in pixels from the left.
        y: Centre in pixels from the top.
        radius: Half its extent in pixels.
        angle: Rotation in radians.
        phase: Phase of its stripes in radians.
    """

    color: int
    shape: int
    row: int
    column: int
    size: int
    texture: int
    x: float
    y: float
    radius: float
    angle: float
    phase: float

    @property
    def combination(self) -> Combination:
        """Colour and shape."""
        return self.color, self.shape


@dataclass(frozen=True)
class Scene:
    """What a picture shows. No two things share both colour and shape, and none shares a cell.

    Attributes:
        things: One to three objects.
        background: Red, green and blue of the background, in [0, 1].
        slope: Change of brightness from left to right and from top to bottom.
        noise: Seed of the pixel noise.
    """

    things: tuple[Thing, ...]
    background: tuple[float, float, float]
    slope: tuple[float, float]
    noise: int


@dataclass(frozen=True)
class Look:
    """How a variant of the data draws things.

    Attributes:
        radii: Smallest and largest radius in pixels of a small and of a large thing.
        jitter: Largest distance of a thing from the centre of its cell, per axis, in pixels.
        tilt: Largest rotation in radians.
        textured: Share of things with stripes, and of things with dots.
    """

    radii: tuple[tuple[float, float], tuple[float, float]]
    jitter: float
    tilt: float
    textured: float


LOOKS: dict[str, Look] = {
    "plain": Look(((7.0, 7.6), (7.0, 7.6)), 0.75, 0.1, 0.0),
    "grid": Look(((4.8, 5.6), (7.0, 7.8)), 1.0, 0.2, 0.15),
}
COUNTS = (0.3, 0.4, 0.3)
"""Shares of scenes of one, two and three things."""


def generator(stream: str, split: str, seed: int, index: int) -> np.random.Generator:
    """Make the generator that a sample is a function of.

    Args:
        stream: A key of ``STREAMS``.
        split: A key of ``SPLITS``.
        seed: Seed of the dataset.
        index: Index of the sample.

    Returns:
        A fresh generator.
    """
    return np.random.default_rng([seed, STREAMS[stream], SPLITS[split], index])


def combinations(split: str, unseen: str) -> tuple[Combination, ...]:
    """List the combinations that scenes of a split are drawn from.

    Args:
        split: A key of ``SPLITS``.
        unseen: ``none``: those of training; ``all``: the split's unseen ones; ``some``: both.

    Returns:
        Combinations.

    Raises:
        ValueError: The split is ``train`` and unseen combinations are asked for.
    """
    if unseen == "none":
        return SEEN
    if not UNSEEN[split]:
        raise ValueError(
            f"unseen: {unseen} with split: {split}: training streams never show an unseen "
            "combination; use unseen: none, or split: dev or publish"
        )
    return UNSEEN[split] if unseen == "all" else SEEN + UNSEEN[split]


def draw_scene(
    rng: np.random.Generator,
    pool: tuple[Combination, ...],
    *,
    variant: str = "plain",
    count: int | None = None,
    first: tuple[Combination, ...] = (),
) -> Scene:
    """Draw a scene.

    Args:
        rng: Source of randomness.
        pool: Combinations to draw from.
        variant: A key of ``LOOKS``.
        count: Number of things; None draws one to three.
        first: Combinations that one of the things comes from; empty for no such rule.

    Returns:
        The scene.
    """
    look = LOOKS[variant]
    number = count or 1 + int(np.searchsorted(np.cumsum(COUNTS)[:-1], rng.random(), side="right"))
    chosen: list[Combination] = [first[int(rng.integers(len(first)))]] if first else []
    while len(chosen) < number:
        combination = pool[int(rng.integers(len(pool)))]
        if combination not in chosen:
            chosen.append(combination)
    cells: list[int] = []
    while len(cells) < number:
        cell = int(rng.integers(9))
        if cell not in cells:
            cells.append(cell)
    things = tuple(
        _thing(rng, look, combination, cell)
        for combination, cell in zip(chosen, cells, strict=True)
    )
    red, green, blue, across, down = rng.random(5).tolist()
    return Scene(
        things=things,
        background=(0.02 + 0.28 * red, 0.02 + 0.28 * green, 0.02 + 0.28 * blue),
        slope=(0.16 * across - 0.08, 0.16 * down - 0.08),
        noise=int(rng.integers(1 << 30)),
    )


def _thing(rng: np.random.Generator, look: Look, combination: Combination, cell: int) -> Thing:
    size, texture, x, y, radius, angle, phase = rng.random(7).tolist()
    row, column = divmod(cell, 3)
    large = int(size < 0.5)
    smallest, largest = look.radii[large]
    return Thing(
        color=combination[0],
        shape=combination[1],
        row=row,
        column=column,
        size=large,
        texture=1 if texture < look.textured else 2 if texture < 2 * look.textured else 0,
        x=CELL * (column + 0.5) + look.jitter * (2 * x - 1),
        y=CELL * (row + 0.5) + look.jitter * (2 * y - 1),
        radius=smallest + (largest - smallest) * radius,
        angle=look.tilt * (2 * angle - 1),
        phase=2 * np.pi * phase,
    )


def facts(scene: Scene) -> Facts:
    """List colour, shape, row and column of every thing: what a full caption tells.

    Args:
        scene: A scene.

    Returns:
        One tuple per thing.
    """
    return frozenset((t.color, t.shape, t.row, t.column) for t in scene.things)
