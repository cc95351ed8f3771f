"""Codebooks a recipe can name: what turns the patches of a picture into targets."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from flava_plugin.data.codebook_file import CodebookInfo, read_codebook
from flava_plugin.data.kmeans import nearest, to_patches
from flava_plugin.schema import InputPath

SHAPES_CODEBOOK = Path(__file__).parents[1] / "assets" / "shapes_codebook.safetensors"


def kmeans_patches(*, path: InputPath | None = None) -> KMeansPatches:
    """The nearest of a set of patches that were fitted to data beforehand.

    Args:
        path: A file of ``flava data fit-codebook``; null takes that of the embedded ``shapes``
            data (patches of 8 pixels).

    Returns:
        The codebook.

    Raises:
        ValueError: The file is none of that command's.
    """
    return KMeansPatches(*read_codebook(path or SHAPES_CODEBOOK))


class KMeansPatches(nn.Module):
    """A fitted codebook; it has no parameters.

    Args:
        centroids: (K, 3 * patch_size * patch_size) float.
        info: What it was fitted to.
    """

    centroids: Tensor

    def __init__(self, centroids: Tensor, info: CodebookInfo) -> None:
        super().__init__()
        self.register_buffer("centroids", centroids)
        self.num_codes = len(centroids)
        self.patch_size = info.patch_size
        self.pixel_range = info.pixel_range
        self.source = info.source

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Look up the code of every patch.

        Args:
            image: (B, 3, h, w) float in ``pixel_range``.

        Returns:
            (B, P) long, P = (h / patch_size) * (w / patch_size).

        Raises:
            ValueError: The picture is no whole number of patches.
        """
        height, width = image.shape[2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"codebook: a picture of {height} x {width} is no whole number of patches of "
                f"{self.patch_size} pixels; set data.image.codebook_size to {self.patch_size} "
                "times the number of patches along a side of the encoder's picture, or fit a "
                "codebook with another --patch-size"
            )
        # fp32 also under autocast: rounding to bfloat16 would change codes
        with torch.autocast(image.device.type, enabled=False):
            return nearest(to_patches(image.float(), self.patch_size), self.centroids.float())

    def decode(self, codes: Tensor) -> Tensor:
        """Draw codes as patches.

        Args:
            codes: (...) long.

        Returns:
            (..., 3, patch_size, patch_size) float in ``pixel_range``.
        """
        patches = self.centroids[codes].clamp(*self.pixel_range)
        return patches.reshape(*codes.shape, 3, self.patch_size, self.patch_size)
