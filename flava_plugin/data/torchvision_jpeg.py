"""JPEG decoded by torchvision; apart from the rest, which needs no torch and so starts at once."""

from __future__ import annotations

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from flava_plugin.data.pictures import Pixels


def decode_by_torchvision(encoded: bytes, size: tuple[int, int]) -> Pixels | None:
    """Decode a JPEG in RGB.

    A stream that is broken inside may still decode, as by PIL; libjpeg then says so on standard
    error, in a line.

    Args:
        encoded: Of ``plain_jpeg``.
        size: Width and height that its header names.

    Returns:
        (H, W, 3) uint8, or None where PIL has to say what is wrong with the file.
    """
    # writable: torch warns of memory that is not, though nobody writes
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    try:
        pixels: torch.Tensor = decode_jpeg(data, ImageReadMode.RGB)  # type: ignore[assignment]
    except (RuntimeError, AttributeError):  # the latter where it was built without JPEG
        return None
    if pixels.shape != (3, size[1], size[0]):
        return None
    array: Pixels = pixels.permute(1, 2, 0).numpy()
    return array
