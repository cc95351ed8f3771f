"""From pixels of 0 to 255, as batches carry them, to what the encoder and the codebook see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_LOBES = 3
"""Of Lanczos' window, as PIL has it."""


@dataclass(frozen=True)
class PixelScale:
    """What turns pixels of 0 to 255 into what the encoder and the codebook see.

    Attributes:
        mean: Per channel, of pixels in [0, 1].
        std: Per channel.
        codebook_range: What 0 and 255 become for the codebook.
        codebook_size: Pixels of a side of the codebook's picture where a batch carries none and it
            is made from the encoder's; None where nobody wants one, or batches carry it.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    codebook_range: tuple[float, float] = (0.0, 1.0)
    codebook_size: int | None = None

    def for_encoder(self, pixels: Tensor) -> Tensor:
        """Normalise the encoder's pictures.

        Args:
            pixels: (B, 3, H, W) uint8; floats are taken for normalised ones.

        Returns:
            (B, 3, H, W) fp32.
        """
        factors = [1 / (255 * std) for std in self.std]
        shifts = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        return _scaled(pixels, factors, shifts)

    def for_codebook(self, pixels: Tensor) -> Tensor:
        """Bring the codebook's pictures into its range.

        Args:
            pixels: (B, 3, h, w) uint8; floats are taken for pictures in the range.

        Returns:
            (B, 3, h, w) fp32.
        """
        low, high = self.codebook_range
        return _scaled(pixels, [(high - low) / 255] * 3, [low] * 3)


def shrink(pixels: Tensor, size: int) -> Tensor:
    """Resize square pictures by Lanczos where they are, as PIL does.

    Two products of matrices; PIL rounds and clips between the two as well, from which the result
    differs by a step of 255 at edges.

    Args:
        pixels: (B, 3, s, s) uint8.
        size: Pixels of a side of the result, at most s.

    Returns:
        (B, 3, size, size) uint8.
    """
    side = pixels.shape[-1]
    if side == size:
        return pixels
    values = pixels.float()
    weights = _lanczos(side, size, values)
    across = (values @ weights.T).round_().clamp_(0, 255)
    return (weights @ across).round_().clamp_(0, 255).to(pixels.dtype)


def _lanczos(side: int, size: int, like: Tensor) -> Tensor:
    """(size, side): what each pixel takes of each of the larger picture; every row adds up to 1."""
    import torch

    places = torch.arange(side, device=like.device, dtype=like.dtype).add_(0.5).mul_(size / side)
    centres = torch.arange(size, device=like.device, dtype=like.dtype).add_(0.5)
    distance = places - centres[:, None]
    window = torch.sinc(distance / _LOBES) * (distance.abs() < _LOBES)
    weights = torch.sinc(distance) * window
    return weights / weights.sum(1, keepdim=True)


def _scaled(pixels: Tensor, scale: list[float], shift: list[float]) -> Tensor:
    """(B, 3, H, W) uint8 -> fp32, a factor and a summand for each channel; floats stay."""
    if pixels.is_floating_point():
        return pixels
    values = pixels.float()
    by_channel = [values.new_tensor(each).view(3, 1, 1) for each in (scale, shift)]
    return values.mul_(by_channel[0]).add_(by_channel[1])
