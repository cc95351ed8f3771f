"""The picture of a sample as a pack keeps it: its file as it is, or encoded anew."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.decoding import decode
from flava_plugin.data.raw_reading import Looked, open_picture
from flava_plugin.data.shards.packing_plan import PackPlan

KEPT = ("jpg", "png", "webp")
"""Formats whose files are packed as they are."""

_LARGEST = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}
"""Pixels of a side that the encoders take: libjpeg's JPEG_MAX_DIMENSION, PNG's specification and
libwebp's WEBP_MAX_DIMENSION."""

_PIL_NAMES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def packed_picture(looked: Looked, plan: PackPlan) -> bytes | None:
    """Give the file that is packed.

    Args:
        looked: A sound sample.
        plan: How pictures are packed.

    Returns:
        The file; None where the kind has no picture.

    Raises:
        DamagedSampleError: The picture is broken, seen only now that it is decoded.
    """
    data = looked.raw.image
    if plan.kind == "text" or data is None:
        return None
    kept = looked.raw.extension in KEPT
    if kept and plan.shorter_side is None:
        return data
    picture = looked.picture if looked.picture is not None else decode(open_picture(data))
    smaller = picture
    if plan.shorter_side is not None:
        smaller = brought_down(picture, plan.shorter_side)
        if kept and smaller is picture:
            return data
    return encoded(smaller, plan.encode, plan.quality)


def brought_down(picture: Image.Image, shorter_side: int) -> Image.Image:
    """Make a picture smaller, its sides in proportion.

    Args:
        picture: In RGB.
        shorter_side: Pixels of its shorter side; smaller pictures are left as they are.

    Returns:
        The smaller picture, or the same object.
    """
    width, height = picture.size
    short = min(width, height)
    if short <= shorter_side:
        return picture
    size = (round(width * shorter_side / short), round(height * shorter_side / short))
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def encoded(picture: Image.Image, extension: str, quality: int) -> bytes:
    """Encode a picture.

    Args:
        picture: In RGB.
        extension: ``jpg``, ``png`` or ``webp``.
        quality: Of JPEG and WebP, 0 to 100; PNG loses nothing.

    Returns:
        The file, without the old one's EXIF, ICC profile or comments.

    Raises:
        DamagedSampleError: It has more pixels on a side than the format can hold.
    """
    if max(picture.size) > _LARGEST[extension]:
        raise DamagedSampleError(
            "broken picture",
            f"{picture.width} x {picture.height} pixels, of which {extension} holds "
            f"{_LARGEST[extension]} a side; see --encode and --reencode",
        )
    options: dict[str, Any] = {} if extension == "png" else {"quality": quality}
    made = BytesIO()
    picture.save(made, _PIL_NAMES[extension], **options)
    return made.getvalue()
