"""Fits a codebook to a dataset's pictures, once, before any run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from flava_plugin.data.codebook_file import CodebookInfo, codebook_file
from flava_plugin.data.kmeans import balance, fit_kmeans, to_patches
from flava_plugin.data.pictures import to_rgb, views
from flava_plugin.durable import write_bytes
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import Dataset

MOST_POINTS = 40_000
"""Patches that are clustered at most; more hardly move the centroids."""


def fit_codebook(
    dataset: Dataset,
    *,
    codes: int,
    patch_size: int,
    image_size: int,
    images: int,
    seed: int,
    source: str,
) -> tuple[Tensor, CodebookInfo]:
    """Fit k-means to patches; the same arguments give the same codebook.

    Args:
        dataset: Holds pictures.
        codes: Number of codes.
        patch_size: Pixels of a side of a patch.
        image_size: Pixels of a side of the pictures the codebook will see.
        images: Most pictures; taken evenly from the whole dataset.
        seed: Of the choice of patches and the start.
        source: The data in words, for the file.

    Returns:
        (codes, 3 * patch_size * patch_size) float and what it was fitted to.

    Raises:
        ValueError: The dataset has no pictures, or too few.
    """
    if image_size % patch_size:
        raise ValueError(
            f"--image-size {image_size} is no multiple of --patch-size {patch_size}; "
            f"the nearest is {max(1, round(image_size / patch_size)) * patch_size}"
        )
    section = ImageSection(size=image_size, codebook_size=image_size, crop=None)
    generator = torch.Generator().manual_seed(seed)
    count = min(images, len(dataset))
    kept = []
    for index in np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist():
        picture = dataset.read(index).image
        if picture is None:
            raise ValueError(f"sample {index} holds no picture; name a dataset of pictures")
        _, small = views(to_rgb(picture), section, with_codebook=True)
        assert small is not None, "asked for above"
        shares = torch.from_numpy(small).float().mul_(1 / 255)
        kept.append(to_patches(shares.unsqueeze(0), patch_size)[0])
    points = balance(torch.cat(kept), generator=generator)
    points = points[torch.randperm(len(points), generator=generator)[:MOST_POINTS]]
    centroids = fit_kmeans(points, codes, generator=generator)
    return centroids, CodebookInfo(patch_size, (0.0, 1.0), source)


def write_codebook(path: Path, centroids: Tensor, info: CodebookInfo) -> None:
    """Write a codebook file.

    Args:
        path: Where to.
        centroids: Of ``fit_codebook``.
        info: Of ``fit_codebook``.
    """
    tensors, metadata = codebook_file(centroids, info)
    write_bytes(path, save(tensors, metadata))
