"""From any picture to the two sizes FLAVA looks at."""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from flava_plugin.sections_data import ImageSection

Box = tuple[int, int, int, int]
Pixels = NDArray[np.uint8]

ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned."""

_RATIO = (log(3 / 4), log(4 / 3))
_ATTEMPTS = 10


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture the way its EXIF tag says and make it RGB.

    Transparent parts become white. 16-bit grey is scaled to 8 bits, not cut off as PIL's own
    conversion does; grey in floating point is taken as 0 to 1, or 0 to 255 where it goes beyond 1.

    Args:
        image: Any picture PIL reads.

    Returns:
        The picture in mode RGB; the same object if it is so already.

    Raises:
        OSError: The picture is cut short or damaged.
    """
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layered = image.convert("RGBA")
        flat = Image.new("RGB", layered.size, "white")
        flat.paste(layered, mask=layered.getchannel("A"))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def choose_box(
    width: int, height: int, area: tuple[float, float], generator: np.random.Generator
) -> Box:
    """Choose the box of a random resized crop, as torchvision's ``RandomResizedCrop`` does.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        area: Smallest and largest share of its area; the sides' ratio is from 3:4 to 4:3.
        generator: Where chance comes from.

    Returns:
        Left, top, right and bottom in pixels.
    """
    for share, ratio, across, down in generator.random((_ATTEMPTS, 4)).tolist():
        target = width * height * (area[0] + share * (area[1] - area[0]))
        aspect = exp(_RATIO[0] + ratio * (_RATIO[1] - _RATIO[0]))
        w, h = round(sqrt(target * aspect)), round(sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    # a very long picture: its middle, as near to the ratios as it can be
    w = min(width, round(height * 4 / 3))
    h = min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def views(
    image: Image.Image,
    section: ImageSection,
    *,
    with_codebook: bool,
    box: Box | None = None,
    mirrored: bool = False,
) -> tuple[Pixels, Pixels | None]:
    """Make the encoder's and the codebook's picture from the same part of a picture.

    Args:
        image: A picture in mode RGB.
        section: Sizes.
        with_codebook: Whether the codebook's is wanted.
        box: The part; None takes the whole.
        mirrored: Whether left and right change places.

    Returns:
        (3, H, W) uint8, resized bicubically, and (3, h, w) uint8, resized by Lanczos, or None. A
        part that has the size already is not resampled.
    """
    if box is not None and box != (0, 0, *image.size):
        image = image.crop(box)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = as_pixels(resized(image, section.size, Image.Resampling.BICUBIC))
    if not with_codebook:
        return pixels, None
    return pixels, as_pixels(resized(image, section.codebook_size, Image.Resampling.LANCZOS))


def resized(image: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """Resize a picture to a square.

    Args:
        image: The picture.
        size: Pixels of a side.
        how: The filter.

    Returns:
        The square; the same object where it has the size already.
    """
    return image if image.size == (size, size) else image.resize((size, size), how)


def as_pixels(image: Image.Image) -> Pixels:
    """Take the pixels of a picture.

    Args:
        image: In mode RGB.

    Returns:
        (3, H, W) uint8.
    """
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    values: NDArray[np.float32] = np.asarray(image).astype(np.float32)
    top = float(values.max(initial=0))
    if image.mode == "F":
        values *= np.float32(255 if top <= 1 else 1)
    elif image.mode.startswith("I;16") or image.format == "PNG" or top > 255:
        values /= np.float32(257)  # 65535 -> 255
    small: NDArray[np.uint8] = np.nan_to_num(values).round().clip(0, 255).astype(np.uint8)
    return small
