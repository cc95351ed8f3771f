"""What is kept of a sample to judge it by: hashes, sizes and scores, 57 bytes beside its text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from flava_plugin.data.curation.perceptual import perceptual_hash
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.decoding import FAILURES, decode
from flava_plugin.data.pictures import ORIENTATION
from flava_plugin.data.plain_text import plain
from flava_plugin.data.raw_reading import open_picture
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.types import Sample

FACTS: dict[str, type[np.generic]] = {
    "key": np.uint64,
    "text": np.uint64,
    "picture": np.uint64,
    "perceptual": np.uint64,
    "width": np.uint32,
    "height": np.uint32,
    "words": np.uint32,
    "chars": np.uint32,
    "ascii": np.float32,
    "fault": np.uint8,
}
"""Type of each column. Hashes are blake2b cut to 8 bytes, 0 where there is nothing to hash."""

_TURNED = (5, 6, 7, 8)  # orientations of EXIF that swap width and height
_ENOUGH = (128, 128)  # pixels that a JPEG is decoded to: four times what the perceptual hash needs


class Facts(NamedTuple):
    """A sample's columns.

    Attributes:
        key: Hash of the sample's key (see ``hash_of``).
        text: Hash of the text without case and needless spaces.
        picture: Hash of the picture's file, or of its pixels where there is no file.
        perceptual: Its perceptual hash.
        width: Pixels, the picture turned the way its EXIF tag says.
        height: Likewise.
        words: Of the text, as spaces part them.
        chars: Of the text.
        ascii: Share of the text's letters that are ASCII; 0 where it has none.
        fault: 0; else 1 plus the place of what is wrong in the table's list of reasons.
    """

    key: int = 0
    text: int = 0
    picture: int = 0
    perceptual: int = 0
    width: int = 0
    height: int = 0
    words: int = 0
    chars: int = 0
    ascii: float = 0.0
    fault: int = 0


def hash_of(content: bytes) -> int:
    """Hash bytes to 8.

    Args:
        content: The bytes.

    Returns:
        64 bits, never 0.
    """
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little") or 1


def key_of_name(name: str) -> str:
    """Take a sample's key from where it lies, as WebDataset does.

    Args:
        name: Such as ``00000.tar:some/000000123.jpg``, or a path.

    Returns:
        The last part up to its first dot, such as ``000000123``.
    """
    return name.rpartition(":")[2].rpartition("/")[2].partition(".")[0]


def facts_of(sample: Sample | RawSample, key: str, *, pictures: bool = True) -> Facts:
    """Describe a sample.

    Args:
        sample: As its dataset reads it, decoded or not.
        key: What names it in files of scores.
        pictures: Whether pictures are decoded; their sizes and perceptual hashes are 0 otherwise.

    Returns:
        Its facts.

    Raises:
        DamagedSampleError: The picture is broken, or there is neither picture nor text.
        OSError: It is read from a file that cannot be read.
    """
    if sample.image is None and not sample.text:
        raise DamagedSampleError("no text", "nor a picture")
    facts = Facts(key=hash_of(key.encode("utf-8", "replace")))
    if sample.text:
        facts = _with_text(facts, sample.text)
    if isinstance(sample.image, bytes):
        facts = facts._replace(picture=hash_of(sample.image))
        return _with_file(facts, sample.image) if pictures else facts
    if sample.image is not None:
        pixels = decode(sample.image)
        seen = f"{pixels.size}".encode() + pixels.tobytes()
        facts = facts._replace(picture=hash_of(seen))
        return _with_picture(facts, pixels) if pictures else facts
    return facts


def scores_of(extra: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    """Read scores from a sample's labels.

    Args:
        extra: Labels by name.
        names: Of the scores.

    Returns:
        A number for each, NaN where there is none that is finite.
    """
    return [finite(extra.get(name)) for name in names]


def finite(value: Any) -> float:
    """Read a score.

    Args:
        value: Anything.

    Returns:
        The number; NaN for what is none, or too large for 32 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < float(np.finfo(np.float32).max) else math.nan


def _with_text(facts: Facts, text: str) -> Facts:
    letters = [mark for mark in text if mark.isalpha()]
    return facts._replace(
        text=hash_of(plain(text).encode("utf-8", "replace")),
        words=len(text.split()),
        chars=len(text),
        ascii=sum(map(str.isascii, letters)) / len(letters) if letters else 0.0,
    )


def _with_file(facts: Facts, content: bytes) -> Facts:
    try:
        return _with_picture(facts, open_picture(content))
    except DamagedSampleError:
        raise
    except FAILURES as error:  # no disk is in this
        raise DamagedSampleError("broken picture", str(error)) from error


def _with_picture(facts: Facts, picture: Image.Image) -> Facts:
    width, height = picture.size
    if picture.getexif().get(ORIENTATION, 1) in _TURNED:
        width, height = height, width
    picture.draft("L", _ENOUGH)  # a JPEG is decoded at a half to an eighth of its size
    seen = perceptual_hash(decode(picture))
    return facts._replace(perceptual=seen, width=width, height=height)
