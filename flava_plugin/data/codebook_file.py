"""The file of a fitted codebook: centroids, and what they were fitted to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor


@dataclass(frozen=True)
class CodebookInfo:
    """What a codebook was fitted to.

    Attributes:
        patch_size: Pixels of a side of a patch.
        pixel_range: Smallest and largest value of its pixels.
        source: The data, in words.
    """

    patch_size: int
    pixel_range: tuple[float, float]
    source: str


def read_codebook(path: Path) -> tuple[Tensor, CodebookInfo]:
    """Read a codebook file.

    Args:
        path: A file that ``codebook_file`` describes.

    Returns:
        (K, D) float centroids and what they were fitted to.

    Raises:
        ValueError: It is no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            info = json.loads(metadata["flava_codebook"])
            centroids: Tensor = file.get_tensor("centroids").float()
        described = CodebookInfo(
            int(info["patch_size"]), (info["range"][0], info["range"][1]), str(info["source"])
        )
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"codebook {path}: no file of 'flava data fit-codebook' ({error})"
        ) from error
    wanted = 3 * described.patch_size**2
    if centroids.dim() != 2 or centroids.shape[1] != wanted:
        raise ValueError(
            f"codebook {path}: centroids of {tuple(centroids.shape)}, but patches of "
            f"{described.patch_size} pixels need (codes, {wanted})"
        )
    return centroids, described


def codebook_file(
    centroids: Tensor, info: CodebookInfo
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Describe a codebook as tensors and metadata for safetensors.

    Args:
        centroids: (K, D) float; kept in half precision, which is finer than 8-bit pixels.
        info: What they were fitted to.

    Returns:
        Tensors and metadata of the file.
    """
    fields = {
        "patch_size": info.patch_size,
        "range": list(info.pixel_range),
        "source": info.source,
    }
    return {"centroids": centroids.half()}, {"flava_codebook": json.dumps(fields)}
