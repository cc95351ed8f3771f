"""The grid of patches of an image, and its position embeddings resized to another grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name every torch user expects


def count_patches(image_size: int, patch_size: int) -> int:
    """Count the patches of the square images that an encoder is built for.

    Args:
        image_size: Pixels of a side.
        patch_size: Pixels of a patch's side.

    Returns:
        How many there are.

    Raises:
        ValueError: ``image_size`` is not a multiple of ``patch_size``.
    """
    if image_size % patch_size:
        raise ValueError(
            f"model.image_encoder.image_size {image_size} is not a multiple of patch_size "
            f"{patch_size}"
        )
    return (image_size // patch_size) ** 2


def grid_of(image: Tensor, patch_size: int) -> tuple[int, int]:
    """Tell how images divide into patches.

    Args:
        image: (B, 3, H, W).
        patch_size: Pixels of a patch's side.

    Returns:
        Lines of patches, and patches of a line.

    Raises:
        ValueError: H or W is not a multiple of the patch size.
    """
    height, width = image.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"an image of {height} x {width} pixels does not divide into patches of "
            f"{patch_size}; set data.image.size to a multiple of it"
        )
    return height // patch_size, width // patch_size


def resize_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize image position embeddings, so that weights serve images of another size.

    As in ViT (arXiv 2010.11929, section 3.2) and Hugging Face's ``interpolate_pos_encoding``: the
    patches' part is a picture of D channels, resized bicubically, and [CLS] keeps its own. Images
    of 480 pixels have 30 x 30 patches of 16, where 224 pixels have 14 x 14.

    Args:
        table: (1, 1 + P, D), [CLS] first, then the P patches of a square grid row by row.
        grid: Wanted lines of patches, and patches of a line.

    Returns:
        (1, 1 + lines * patches, D) of the table's type; the table itself where nothing changes.

    Raises:
        ValueError: The table has another form, or its grid is not square.
    """
    if table.dim() != 3 or len(table) != 1:
        raise ValueError(f"position embeddings are (1, 1 + P, D), and not {tuple(table.shape)}")
    count, width = table.shape[1] - 1, table.shape[2]
    side = math.isqrt(count)
    if count < 1 or side**2 != count:
        raise ValueError(f"{count} patches are no square grid, so their places are not known")
    if grid == (side, side):
        return table
    picture = table[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    resized = F.interpolate(picture.float(), size=grid, mode="bicubic", align_corners=False)
    places = resized.permute(0, 2, 3, 1).reshape(1, -1, width).to(table.dtype)
    return torch.cat([table[:, :1], places], dim=1)
