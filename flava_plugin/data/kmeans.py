"""K-means on patches of pictures: fits the codebook that turns patches into targets."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 0.03
"""A patch whose pixels deviate less than this (of a range of 1) from its mean colour is flat."""


def to_patches(image: Tensor, size: int) -> Tensor:
    """Cut pictures into patches.

    Args:
        image: (B, C, H, W), H and W multiples of ``size``.
        size: Pixels of a side of a patch.

    Returns:
        (B, P, C * size * size), rows first, then columns, as FLAVA's encoder orders them.
    """
    rows, columns, channels = image.shape[2] // size, image.shape[3] // size, image.shape[1]
    cut = image.reshape(len(image), channels, rows, size, columns, size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(len(image), rows * columns, -1)


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Find the nearest centroid of each point.

    Args:
        points: (..., D).
        centroids: (K, D).

    Returns:
        (...) long; of equally near ones the first.
    """
    # |x - c|^2 = |x|^2 - 2 (x.c - |c|^2 / 2), and |x|^2 is the same for all centroids
    scores = points @ centroids.T - centroids.square().sum(1) / 2
    return scores.argmax(-1)


def balance(patches: Tensor, *, channels: int = 3, generator: torch.Generator) -> Tensor:
    """Keep all textured patches and a quarter as many flat ones, so these do not take the codes.

    Args:
        patches: (N, channels * pixels).
        channels: Number of colour channels.
        generator: Chooses the flat ones.

    Returns:
        (M, channels * pixels); all patches if none is textured.
    """
    planes = patches.view(len(patches), channels, -1)
    textured = planes.sub(planes.mean(-1, keepdim=True)).square().mean((1, 2)).sqrt() > FLAT
    rich, flat = patches[textured], patches[~textured]
    if not len(rich):
        return patches
    chosen = torch.randperm(len(flat), generator=generator)[: max(1, len(rich) // 4)]
    return torch.cat([rich, flat[chosen]])


def fit_kmeans(
    points: Tensor, codes: int, *, iterations: int = 25, generator: torch.Generator
) -> Tensor:
    """Fit centroids by Lloyd's algorithm from a k-means++ start.

    Args:
        points: (N, D) float.
        codes: Number of centroids K.
        iterations: Rounds of Lloyd's algorithm.
        generator: Chooses the start, and new places for centroids that no point is nearest to.

    Returns:
        (K, D) float, ordered by the number of points that are nearest to each, most first.

    Raises:
        ValueError: There are fewer different points than centroids.
    """
    if len(points) < codes:
        raise ValueError(
            f"{len(points)} patches cannot fit {codes} codes; give more pictures or fewer codes"
        )
    centroids = _spread(points, codes, generator)
    for _ in range(iterations):
        owner = nearest(points, centroids)
        counts = torch.bincount(owner, minlength=codes)
        sums = torch.zeros_like(centroids).index_add_(0, owner, points)
        fresh = points[torch.randint(len(points), (codes,), generator=generator)]
        means = sums / counts.clamp_min(1).unsqueeze(1)
        centroids = torch.where(counts.unsqueeze(1) > 0, means, fresh)
    counts = torch.bincount(nearest(points, centroids), minlength=codes)
    return centroids[counts.argsort(descending=True, stable=True)]


def _spread(points: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """Choose starting centroids far from each other (k-means++, Arthur and Vassilvitskii 2007)."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    chosen = [first]
    distance = (points - points[first]).square().sum(1)
    for _ in range(codes - 1):
        if float(distance.max()) == 0:
            raise ValueError(
                f"the patches are of {len(chosen)} kinds only, too few for {codes} codes; give "
                "other pictures or fewer codes"
            )
        # inverse of the cumulative sum: torch.multinomial takes at most 2^24 points
        total = distance.double().cumsum(0)
        draw = torch.rand(1, generator=generator, dtype=torch.float64) * total[-1]
        index = min(int(torch.searchsorted(total, draw, right=True)), len(points) - 1)
        chosen.append(index)
        distance = torch.minimum(distance, (points - points[index]).square().sum(1))
    return points[chosen].clone()
