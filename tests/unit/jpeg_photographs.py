"""Photographs of the dev extra's scikit-image as JPEG files of a wanted size."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import skimage
from PIL import Image

NAMES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "ihc.png",
    "hubble_deep_field.jpg",
)


@cache
def photograph(name: str, width: int, height: int) -> Image.Image:
    """The middle of a photograph in this shape, resized to these sizes."""
    with Image.open(Path(skimage.__file__).parent / "data" / name) as opened:
        whole = opened.convert("RGB")
    across = min(whole.width, round(whole.height * width / height))
    down = min(whole.height, round(whole.width * height / width))
    left, top = (whole.width - across) // 2, (whole.height - down) // 2
    part = whole.crop((left, top, left + across, top + down))
    return part.resize((width, height), Image.Resampling.LANCZOS)


def as_jpeg(picture: Image.Image, **options: object) -> bytes:
    """A JPEG file, 4:2:0 as nearly all photographs are."""
    file = BytesIO()
    picture.save(file, "JPEG", **{"quality": 90, "subsampling": "4:2:0", **options})
    return file.getvalue()


def as_jpeg_of(picture: Image.Image, wanted: int) -> bytes:
    """A JPEG file whose quality brings it nearest to so many bytes."""
    files = [as_jpeg(picture, quality=quality) for quality in range(40, 98, 3)]
    return min(files, key=lambda file: abs(len(file) - wanted))
