"""The codebook of FLAVA, BEiT and DALL-E: the encoder of DALL-E's discrete VAE (paper section 3.2).

The network is dall_e's ``Encoder`` and torchmultimodal's ``DalleEncoder``, with the same logits up
to rounding, written for targets alone: no graph, kernels channels-last, 1 x 1 convolutions as
products that add in place, ReLU in place, Winograd's kernels where they win, and the last layer
only where a code is wanted.

Legend for shapes: B pictures, h x w pixels, P = h/8 * w/8 patches, C channels, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin.components.winograd import convolve, transform_kernel
from flava_plugin.data.dalle_file import GROUPS, PIXEL_RANGE, check_shapes, read_dalle
from flava_plugin.schema import InputPath
from flava_plugin.types import IGNORE

PATCH_SIZE = 2 ** (GROUPS - 1)
"""Pixels of a side that one code stands for: every group but the last halves the picture."""

PICTURES_AT_ONCE = {"cpu": 1}
"""Pictures in one pass of the first group, whose activations are the largest (13 MB a picture of
112 pixels). On a CPU one by one is as fast as all together."""
PICTURES_AT_ONCE_ELSEWHERE = 32

ROWS_AT_ONCE = 2048
"""Patches whose K logits are there at once (64 MB of fp32 at 8192 codes)."""

WINOGRAD_GROUPS = ("group_3", "group_4")
"""Where Winograd's kernels win on a CPU: 1.3 to 2.5 times there, 0.5 to 1.0 in the wider pictures
before (one thread of an AVX-512 machine, torch 2.11)."""

ROUNDING = 1e-3
"""By how much a pixel may miss its range."""


def dalle_dvae(*, path: InputPath) -> DalleCodes:
    """The encoder of DALL-E, whose codes FLAVA predicts.

    It needs ``data.image.codebook_range: [0.1, 0.9]``, the pixels it was trained on, and gives a
    code for each 8 pixels of ``data.image.codebook_size``: 112 make 14 x 14 patches.

    Args:
        path: A file of ``flava weights dalle``.

    Returns:
        The codebook.

    Raises:
        ValueError: The file is none of that command's.
    """
    # Where a GPU is, the learner goes there, and cuDNN has kernels of its own.
    return DalleCodes(read_dalle(path), winograd=not torch.cuda.is_available())


class DalleCodes(nn.Module):
    """The encoder with the parameters' names of ``dalle_file``, a dot written as ``/``.

    Args:
        state: Tensors of ``read_dalle``; they are taken over, not copied.
        winograd: Whether 3 x 3 kernels of the last groups are kept in Winograd's form alone, which
            is right on any device and fast on a CPU.

    Attributes:
        num_codes: Number of codes K.
        patch_size: Pixels of a side that a code stands for.
        pixel_range: Smallest and largest value of a pixel.
    """

    def __init__(self, state: Mapping[str, Tensor], *, winograd: bool = False) -> None:
        super().__init__()
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        _, self.num_codes, self.blocks = check_shapes(shapes, "state")
        self.patch_size = PATCH_SIZE
        self.pixel_range = PIXEL_RANGE
        # The same for every block (dall_e.encoder.EncoderBlock.post_gain).
        self.gain = 1 / (GROUPS * self.blocks) ** 2
        self.weights = nn.ParameterDict()
        for name, value in state.items():
            smaller = winograd and shapes[name][2:] == (3, 3)
            smaller = smaller and name.split(".")[1] in WINOGRAD_GROUPS
            kept = transform_kernel(value) if smaller else value
            self.weights[name.replace(".", "/")] = nn.Parameter(kept, requires_grad=False)
        self._range_checked = False

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Look up the code of every patch.

        Args:
            image: (B, 3, h, w) float in ``pixel_range``.

        Returns:
            (B, P) long. A picture that is no whole number of patches, or has pixels beyond the
            range, is refused (``codes_at``).
        """
        wanted = torch.ones(len(image), self._patches(image), dtype=torch.bool, device=image.device)
        return self.codes_at(image, wanted)

    @torch.no_grad()
    def codes_at(self, image: Tensor, wanted: Tensor) -> Tensor:
        """Look up the codes of some patches.

        Args:
            image: (B, 3, h, w) float in ``pixel_range``.
            wanted: (B, P) bool.

        Returns:
            (B, P) long, ``IGNORE`` where no code is wanted.

        Raises:
            ValueError: The picture is no whole number of patches, ``wanted`` does not fit it, or
                its pixels are beyond the range.
        """
        if wanted.shape != (len(image), self._patches(image)):
            raise ValueError(
                f"codebook: wanted is {tuple(wanted.shape)}, but pictures of {tuple(image.shape)} "
                f"have {len(image)} x {self._patches(image)} patches; set data.image.codebook_size "
                f"to {PATCH_SIZE} times the patches along a side of the encoder's picture"
            )
        self._check_range(image)
        codes = torch.full(wanted.shape, IGNORE, dtype=torch.long, device=image.device)
        pictures = wanted.any(1)
        if not pictures.any():
            return codes
        # fp32 also under autocast: rounding to bfloat16 would change codes.
        with torch.autocast(image.device.type, enabled=False):
            hidden = self.hidden(image[pictures].float())
            rows = _rows(hidden)[wanted[pictures].flatten()]
            found = [self._logits(part).argmax(1) for part in torch.split(rows, ROWS_AT_ONCE)]
        codes[wanted] = torch.cat(found)
        return codes

    @torch.no_grad()
    def logits(self, image: Tensor) -> Tensor:
        """Compute the logits of every code, for comparison with other implementations.

        Args:
            image: (B, 3, h, w) float in ``pixel_range``.

        Returns:
            (B, K, h/8, w/8) fp32.
        """
        with torch.autocast(image.device.type, enabled=False):
            hidden = self.hidden(image.float())
            return _picture(self._logits(_rows(hidden)), hidden)

    def hidden(self, image: Tensor) -> Tensor:
        """Run all but the last layer.

        Args:
            image: (B, 3, h, w) fp32.

        Returns:
            (B, C, h/8, w/8) fp32 after the last ReLU, channels-last.
        """
        image = image.contiguous(memory_format=torch.channels_last)
        at_once = PICTURES_AT_ONCE.get(image.device.type, PICTURES_AT_ONCE_ELSEWHERE)
        parts = torch.split(image, at_once)
        x = torch.cat([self._group(1, self._plain(part, "blocks.input", 3)) for part in parts])
        for group in range(2, GROUPS + 1):
            x = self._group(group, x)
        return x.relu_()

    def _group(self, group: int, x: Tensor) -> Tensor:
        for number in range(1, self.blocks + 1):
            x = self._block(f"blocks.group_{group}.block_{number}", x)
        return F.max_pool2d(x, 2) if group < GROUPS else x

    def _block(self, name: str, x: Tensor) -> Tensor:
        inner = x.relu()
        for number in (1, 2, 3):
            inner = self._three(inner, f"{name}.res_path.conv_{number}").relu_()
        widens = f"{name}.id_path.w".replace(".", "/") in self.weights
        if x.device.type != "cpu":
            same = self._plain(x, f"{name}.id_path", 0) if widens else x
            return same.add_(self._plain(inner, f"{name}.res_path.conv_4", 0), alpha=self.gain)
        rows = self._product(_rows(x), f"{name}.id_path") if widens else _rows(x)
        kernel, bias = self._of(f"{name}.res_path.conv_4")
        rows.addmm_(_rows(inner), kernel.flatten(1).t(), alpha=self.gain)
        return _picture(rows.add_(bias, alpha=self.gain), x)

    def _three(self, x: Tensor, name: str) -> Tensor:
        kernel, bias = self._of(name)
        if kernel.dim() == 4:
            return F.conv2d(x, kernel, bias, padding=1)
        # Winograd's tiles are 2 x 2: an odd side gets a row or column of zeros, cut off again.
        height, width = x.shape[2:]
        pixels = x.permute(0, 2, 3, 1)
        if height % 2 or width % 2:
            pixels = F.pad(pixels, (0, 0, 0, width % 2, 0, height % 2))
        return convolve(pixels, kernel, bias)[:, :height, :width].permute(0, 3, 1, 2)

    def _plain(self, x: Tensor, name: str, padding: int) -> Tensor:
        return F.conv2d(x, *self._of(name), padding=padding)

    def _product(self, rows: Tensor, name: str) -> Tensor:
        kernel, bias = self._of(name)
        return F.linear(rows, kernel.flatten(1), bias)

    def _logits(self, rows: Tensor) -> Tensor:
        if rows.device.type == "cpu":
            return self._product(rows, "blocks.output.conv")
        # As a convolution, so that it is rounded as torch is told to round convolutions there.
        return self._plain(rows[..., None, None], "blocks.output.conv", 0).flatten(1)

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        name = name.replace(".", "/")
        return self.weights[f"{name}/w"], self.weights[f"{name}/b"]

    def _patches(self, image: Tensor) -> int:
        height, width = image.shape[2:]
        if height % PATCH_SIZE or width % PATCH_SIZE:
            raise ValueError(
                f"codebook: a picture of {height} x {width} is no whole number of patches of "
                f"{PATCH_SIZE} pixels; set data.image.codebook_size to {PATCH_SIZE} times the "
                "number of patches along a side of the encoder's picture"
            )
        return int(height // PATCH_SIZE * (width // PATCH_SIZE))

    def _check_range(self, image: Tensor) -> None:
        # Looking at values makes a GPU wait, so there the first batch has to do.
        if not image.numel() or (image.device.type != "cpu" and self._range_checked):
            return
        self._range_checked = True
        low, high = float(image.min()), float(image.max())
        if not (PIXEL_RANGE[0] - ROUNDING <= low and high <= PIXEL_RANGE[1] + ROUNDING):
            raise ValueError(
                f"codebook: pixels from {low:.3g} to {high:.3g}, but DALL-E's encoder knows "
                f"{PIXEL_RANGE[0]} to {PIXEL_RANGE[1]}; set data.image.codebook_range: [0.1, 0.9]"
            )


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) channels-last -> (B * h * w, C), a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _picture(rows: Tensor, like: Tensor) -> Tensor:
    """(B * h * w, C) -> (B, C, h, w) channels-last, a view, h and w of ``like``."""
    return rows.view(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)
