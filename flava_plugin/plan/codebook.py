"""What making codes costs: one image through the codebook, its operations counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from flava_plugin import registry
from flava_plugin.plan.options import Options
from flava_plugin.schema import Component
from flava_plugin.sections_data import ImageSection

DALLE_WIDTH, DALLE_CODES = 2048, 8192
"""Channels before the last layer of DALL-E's encoder, and its codes (torchmultimodal's
``DalleEncoder``: 8 * n_hid and vocab_size)."""


FEW_IMAGES = (3, 6)
"""Images whose working sets are compared to learn what one more takes."""


@dataclass(frozen=True)
class CodebookCost:
    """A codebook's work on one image.

    Attributes:
        num_codes: Size of its vocabulary.
        parameters: Numbers it holds, all frozen.
        flops: Of one image.
        peak_bytes: Most bytes that live at once while images are coded, for each image.
        base_bytes: The same, for however many images.
        selective: Whether it skips images none of whose patches is predicted.
        convolves: Whether its work is convolutions, which a GPU does in TF32.
        module: The codebook, for timing it; None where its file is not here.
    """

    num_codes: int
    parameters: int
    flops: float
    peak_bytes: float
    base_bytes: float
    selective: bool
    convolves: bool
    module: nn.Module | None = None


def codebook_cost(
    spec: Component, image: ImageSection, wanted: int, patches: int, options: Options
) -> tuple[CodebookCost, list[str]]:
    """Count a codebook's work.

    Args:
        spec: The recipe's ``model.codebook``.
        image: The recipe's ``data.image``.
        wanted: Hidden patches of an image, whose codes are read.
        patches: Patches P of an image.
        options: The number of codes where the codebook's file is not here.

    Returns:
        The cost, and lines that say what was assumed.

    Raises:
        ValueError: The codebook's file is not here and its work is not known.
    """
    size = image.codebook_size
    try:
        module = registry.codebooks.build(spec.type, **spec.options)
    except (OSError, ValueError) as missing:
        return _without_file(spec, size, wanted, patches, options, missing)
    held = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    selective = hasattr(module, "codes_at")

    def code(count: int) -> object:
        pictures = torch.full((count, 3, size, size), sum(image.codebook_range) / 2)
        if not selective:
            return module(pictures)
        return module.codes_at(pictures, (torch.arange(patches) < wanted).expand(count, -1))

    # For real and not on the meta device: what is skipped depends on data. The bytes are those of
    # several images, for a part of the work may go one image at a time.
    flops, one = _count(lambda: code(1))

    def held_by(count: int) -> float:
        return _count(lambda: code(count))[1]

    few, many = (held_by(count) for count in FEW_IMAGES)
    each = max(0.0, many - few) / (FEW_IMAGES[1] - FEW_IMAGES[0])
    return CodebookCost(
        num_codes=int(module.num_codes),
        parameters=held,
        flops=flops,
        peak_bytes=each,
        base_bytes=max(one - each, few - FEW_IMAGES[0] * each, 0.0),
        selective=selective,
        convolves=spec.type == "dalle_dvae",
        module=module,
    ), []


def _without_file(
    spec: Component, size: int, wanted: int, patches: int, options: Options, missing: Exception
) -> tuple[CodebookCost, list[str]]:
    line = f"the file of model.codebook '{spec.type}' is not here"
    if spec.type == "kmeans_patches":
        pixels = 3 * size * size // patches
        flops = 2.0 * patches * pixels * options.codes
        peak = 4.0 * patches * (options.codes + pixels)
        held = options.codes * pixels
        cost = CodebookCost(options.codes, held, flops, peak, 0.0, False, False)
        return cost, [f"codebook of {options.codes:,} codes: {line} (--codes)"]
    if spec.type == "dalle_dvae":
        from torchmultimodal.models.flava.model import DalleEncoder

        with torch.device("meta"):
            encoder, picture = DalleEncoder(), torch.zeros(1, 3, size, size)
        flops, peak = _count(lambda: encoder(picture))
        flops -= 2.0 * (patches - wanted) * DALLE_WIDTH * DALLE_CODES
        held = sum(p.numel() for p in encoder.parameters())
        return CodebookCost(DALLE_CODES, held, flops, peak, 0.0, True, True), [
            f"{line}; its net is known"
        ]
    raise ValueError(f"model.codebook: {line} and its work is not known: {missing}") from missing


def _count(run: Callable[[], object]) -> tuple[float, float]:
    """FLOPs and most bytes alive at once of a forward pass."""
    live = LiveBytes()
    with torch.no_grad(), FlopCounterMode(display=False) as counter, live:
        run()
    return float(counter.get_total_flops()), float(live.peak)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that tensors made inside it hold at once, on any device, meta included.

    Attributes:
        now: Bytes held now.
        peak: The most so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note the storages it makes.

        Args:
            func: The operation.
            types: Not read.
            args: Its inputs.
            kwargs: Its options.

        Returns:
            Its result.
        """
        result = func(*args, **(kwargs or {}))
        inputs = {id(t.untyped_storage()) for t in _tensors(args)}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if id(storage) in inputs or key in self._known:
                continue
            self._known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            finalize(storage, self._freed, key, storage.nbytes())
        return result

    def _freed(self, key: int, count: int) -> None:
        self._known.discard(key)
        self.now -= count


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]
    return []
