"""From a file to the pixels of a picture, and what is said of one that is broken."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import Literal

from PIL import Image

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.pictures import ORIENTATION, to_rgb
from flava_plugin.sections_data import ImageSection

# What PIL, datasets and damaged files raise (UnidentifiedImageError is an OSError; broken JSON and
# UTF-8 are ValueErrors, a broken PNG chunk a SyntaxError). Anything else is a mistake in code.
FAILURES = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def decode(picture: Image.Image) -> Image.Image:
    """Decode a picture by PIL, turn it and make it RGB.

    Args:
        picture: Any picture PIL has opened.

    Returns:
        The picture in mode RGB.

    Raises:
        DamagedSampleError: It is broken, or has no pixels.
        OSError: The file could not be read.
    """
    try:
        picture.load()
        whole = to_rgb(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DamagedSampleError("decompression bomb", str(error)) from error
    except FAILURES as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's word, not the picture's
        raise DamagedSampleError("broken picture", str(error)) from error
    if 0 in whole.size:
        raise DamagedSampleError("no picture", f"{whole.width} x {whole.height} pixels")
    return whole


def plain_jpeg(picture: Image.Image) -> bytes | None:
    """Read the file of a JPEG in RGB that needs no turning and is not decoded yet.

    Args:
        picture: Any picture PIL has opened; it stays as it is.

    Returns:
        The file, or None where ``decode`` has to do it.
    """
    file = getattr(picture, "fp", None)
    if picture.format != "JPEG" or picture.mode != "RGB" or file is None:
        return None
    if not getattr(picture, "tile", None):
        return None
    try:
        if picture.getexif().get(ORIENTATION, 1) != 1:
            return None
        file.seek(0)
        encoded: bytes = file.read()
    except FAILURES:
        return None  # PIL meets it again, and says what it is
    return encoded


def warn_of_bombs(section: ImageSection | None) -> None:
    """Set, inside ``warnings.catch_warnings``, what becomes of PIL's word about large pictures.

    Args:
        section: Its ``max_pixels`` may allow more than PIL does without a warning; None allows no
            more.
    """
    allowed = section is not None and section.max_pixels > (Image.MAX_IMAGE_PIXELS or 0)
    action: Literal["ignore", "error"] = "ignore" if allowed else "error"
    warnings.simplefilter(action, Image.DecompressionBombWarning)
