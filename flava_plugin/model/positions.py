"""Position embeddings of images, resized from one grid of patches to another."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name every torch user expects


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
