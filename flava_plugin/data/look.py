"""One decode of a picture -> the same part of it at the two sizes FLAVA looks at."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image, JpegImagePlugin
from torch.nn.functional import interpolate

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.decoding import decode, plain_jpeg
from flava_plugin.data.pictures import Box, Pixels, as_pixels, choose_box, resized, views
from flava_plugin.data.randomness import generator
from flava_plugin.data.torchvision_jpeg import decode_by_torchvision
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import Key

Views = tuple[Pixels, Pixels | None]
"""(3, H, W) uint8 for the encoder, and (3, h, w) uint8 for the codebook or None."""

_DRAFT_MARGIN = 3
"""A draft keeps so many pixels for each one wanted: fewer, and its rounded box would show."""


@dataclass(frozen=True)
class Look:
    """How the picture of one sample is looked at, a function of the seed and the key.

    Attributes:
        section: Sizes, and who does what.
        key: The sample's name in the run.
        seed: Seed of the run.
        with_codebook: Whether the codebook's picture is wanted.
    """

    section: ImageSection
    key: Key
    seed: int
    with_codebook: bool

    def at(self, picture: Image.Image) -> Views:
        """Decode a picture, and cut and resize it.

        Args:
            picture: Any picture PIL has opened; one that is not decoded yet is decoded here. What
                no file gave (``format`` is None) is drawn by a program and goes PIL's way in full.

        Returns:
            The two views; the second is None where it is not wanted or made on the device.

        Raises:
            DamagedSampleError: The picture is broken, empty or too large.
            OSError: The file could not be read.
        """
        section = self.section
        if picture.width * picture.height > section.max_pixels:
            raise DamagedSampleError(
                "decompression bomb",
                f"{picture.width} x {picture.height} pixels, more than data.image.max_pixels: "
                f"{section.max_pixels}",
            )
        small = self.with_codebook and section.codebook_view != "device"
        if picture.format is None:
            whole = decode(picture)
            box, mirrored = self._part(whole.width, whole.height)
            return views(whole, section, with_codebook=small, box=box, mirrored=mirrored)
        encoded = plain_jpeg(picture) if section.decoder != "pil" else None
        cut: tuple[Image.Image | Pixels, bool] | None = None
        if encoded is not None and section.decoder == "draft":
            cut = self._draft(encoded)
        if cut is None:
            pixels = None if encoded is None else decode_by_torchvision(encoded, picture.size)
            cut = self._cut(decode(picture) if pixels is None else pixels)
        part, mirrored = cut
        large, little = _two_sizes(part, section, small)
        if mirrored:
            return _mirror(large), None if little is None else _mirror(little)
        return large, little

    def _part(self, width: int, height: int) -> tuple[Box, bool]:
        """Choose the part, and whether it is mirrored."""
        box, mirrored = (0, 0, width, height), False
        if self.section.crop is not None or self.section.flip:
            chance = generator(self.seed, "crop", self.key)
            if self.section.crop is not None:
                box = choose_box(width, height, self.section.crop, chance)
            mirrored = self.section.flip and bool(chance.random() < 0.5)
        return box, mirrored

    def _cut(self, whole: Image.Image | Pixels) -> tuple[Image.Image | Pixels, bool]:
        """Cut the part out of a picture or of (H, W, 3) pixels."""
        if isinstance(whole, Image.Image):
            box, mirrored = self._part(whole.width, whole.height)
            return (whole if box == (0, 0, *whole.size) else whole.crop(box)), mirrored
        (left, top, right, bottom), mirrored = self._part(whole.shape[1], whole.shape[0])
        return whole[top:bottom, left:right], mirrored

    def _draft(self, encoded: bytes) -> tuple[Image.Image, bool] | None:
        """Decode only as many pixels as the part needs, or None where it needs them all."""
        # afresh, since a draft changes the picture, and others may yet want all of it
        picture = Image.open(BytesIO(encoded))
        box, mirrored = self._part(picture.width, picture.height)
        room = min(box[2] - box[0], box[3] - box[1]) / (_DRAFT_MARGIN * self.section.size)
        scale = next((each for each in (8, 4, 2) if each <= room), 1)
        if scale == 1:
            return None
        assert isinstance(picture, JpegImagePlugin.JpegImageFile)
        picture.draft("RGB", (picture.width // scale, picture.height // scale))
        left, top, right, bottom = (round(edge / scale) for edge in box)
        return decode(picture).crop((left, top, right, bottom)), mirrored


def _two_sizes(part: Image.Image | Pixels, section: ImageSection, small: bool) -> Views:
    """Resize a part, a picture or (H, W, 3) pixels, to both sizes."""
    if section.resize == "pil":
        picture = _picture(part)
        square = resized(picture, section.size, Image.Resampling.BICUBIC)
        large = as_pixels(square)
    else:
        large = _by_torch(part if isinstance(part, np.ndarray) else np.array(part), section.size)
    if not small:
        return large, None
    width, height = part.size if isinstance(part, Image.Image) else part.shape[1::-1]
    if _shares(section, width, height):
        planes = [Image.fromarray(plane) for plane in large]
        source = Image.merge("RGB", planes)
    else:
        source = _picture(part)
    little = resized(source, section.codebook_size, Image.Resampling.LANCZOS)
    return large, as_pixels(little)


def _shares(section: ImageSection, width: float, height: float) -> bool:
    """Whether the codebook's picture is made from the encoder's."""
    return section.codebook_view == "shared" and 2 * section.codebook_size <= section.size <= min(
        width, height
    )


def _by_torch(part: Pixels, size: int) -> Pixels:
    """(h, w, 3) -> (3, size, size), bicubic and antialiased as by PIL but for rounding."""
    pixels = torch.from_numpy(part).permute(2, 0, 1)
    if part.shape[:2] != (size, size):
        pixels = interpolate(pixels[None], size=(size, size), mode="bicubic", antialias=True)[0]
    array: Pixels = pixels.contiguous().numpy()
    return array


def _picture(part: Image.Image | Pixels) -> Image.Image:
    return part if isinstance(part, Image.Image) else Image.fromarray(np.ascontiguousarray(part))


def _mirror(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, ::-1])
