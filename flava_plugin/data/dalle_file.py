"""The file of DALL-E's encoder: names, shapes, and other programs' names for the same tensors.

The names are those of torchmultimodal's ``DalleEncoder``, as OpenAI's own:
``blocks.input.w``, ``blocks.group_G.block_B.id_path.w`` (where widths differ),
``blocks.group_G.block_B.res_path.conv_C.w``, ``blocks.output.conv.w``, and a ``.b`` for each
``.w``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

T = TypeVar("T")

GROUPS = 4
"""Groups of blocks; each but the first doubles the width, each but the last halves the picture."""

PIXEL_RANGE = (0.1, 0.9)
"""What the encoder was trained on: pixels x as 0.8 x + 0.1 (dall_e.utils.map_pixels)."""

TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
"""What weights may be of, by safetensors' names; smaller types need scales, which no name holds."""

MOST_SHOWN = 10
INPUT = "blocks.input."
WAY_OUT = "convert the published file with 'flava weights dalle SRC DST'"


def shapes_of(hidden: int, codes: int, blocks: int) -> dict[str, tuple[int, ...]]:
    """List every tensor of an encoder.

    Args:
        hidden: Width of the first group (published: 256), a multiple of 4.
        codes: Number of codes (published: 8192).
        blocks: Blocks in a group (published: 2).

    Returns:
        Shape by name.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, n_in: int, n_out: int, side: int) -> None:
        shapes[f"{name}.w"] = (n_out, n_in, side, side)
        shapes[f"{name}.b"] = (n_out,)

    convolution("blocks.input", 3, hidden, 7)
    n_in = hidden
    for group in range(1, GROUPS + 1):
        n_out = hidden * 2 ** (group - 1)
        for number in range(1, blocks + 1):
            block = f"blocks.group_{group}.block_{number}"
            if n_in != n_out:
                convolution(f"{block}.id_path", n_in, n_out, 1)
            inside = n_out // 4
            convolution(f"{block}.res_path.conv_1", n_in, inside, 3)
            convolution(f"{block}.res_path.conv_2", inside, inside, 3)
            convolution(f"{block}.res_path.conv_3", inside, inside, 3)
            convolution(f"{block}.res_path.conv_4", inside, n_out, 1)
            n_in = n_out
    convolution("blocks.output.conv", n_in, codes, 1)
    return shapes


def our_names(names: Iterable[str]) -> dict[str, str]:
    """Find an encoder among the tensors of a file.

    Args:
        names: Names as in dall_e's ``Encoder``, torchmultimodal's ``DalleVAEEncoder`` or Hugging
            Face's ``FlavaImageCodebook``, or of a whole FLAVA that holds one of the latter two.

    Returns:
        Our name by name there; what is no part of the encoder is left out.

    Raises:
        ValueError: They hold no encoder, or several.
    """
    names = list(names)
    found = [n for n in names if re.search(r"(^|\.)blocks\.input\.(w|weight)$", n)]
    if len(found) != 1:
        raise ValueError(
            f"{len(found) or 'no'} tensors are called '*blocks.input.w' (or .weight), where "
            "DALL-E's encoder has one; give its state, or that of a FLAVA that contains it"
        )
    prefix = found[0][: found[0].index(INPUT)]
    return {n: _ours(n.removeprefix(prefix)) for n in names if n.startswith(f"{prefix}blocks.")}


def _ours(name: str) -> str:
    # Hugging Face wraps groups and residual paths once more and spells parameters out.
    name = re.sub(r"^(blocks\.group_\d+)\.group\.", r"\1.", name)
    name = name.replace(".res_path.path.", ".res_path.")
    return re.sub(r"\.weight$", ".w", re.sub(r"\.bias$", ".b", name))


def check_shapes(shapes: Mapping[str, tuple[int, ...]], where: str) -> tuple[int, int, int]:
    """Check that tensors are an encoder, all of it and nothing else.

    Args:
        shapes: Shape by our name.
        where: The file, for the message.

    Returns:
        Width of the first group, number of codes, blocks in a group.

    Raises:
        ValueError: A tensor is missing, unknown or of a wrong shape; each is named.
    """
    first, last = shapes.get("blocks.input.w", ()), shapes.get("blocks.output.conv.w", ())
    if len(first) != 4 or len(last) != 4 or first[0] < 4 or first[0] % 4 or last[0] < 1:
        raise ValueError(
            f"{where}: no encoder of DALL-E: blocks.input.w is {first or 'missing'}, "
            f"blocks.output.conv.w is {last or 'missing'}; {WAY_OUT}"
        )
    blocks = len({n.split(".")[2] for n in shapes if n.startswith("blocks.group_1.")})
    wanted = shapes_of(first[0], last[0], blocks)
    problems = [f"missing: {name} {shape}" for name, shape in wanted.items() if name not in shapes]
    problems += [f"unknown: {name}" for name in shapes if name not in wanted]
    problems += [
        f"{name} is {shapes[name]} instead of {shape}"
        for name, shape in wanted.items()
        if shapes.get(name, shape) != shape
    ]
    if problems or not blocks:
        listed = problems[:MOST_SHOWN] or ["group_1 has no block"]
        more = len(problems) - len(listed)
        raise ValueError(
            f"{where}: no encoder of DALL-E:\n  "
            + "\n  ".join(listed)
            + (f"\n  and {more} more" if more > 0 else "")
        )
    return first[0], last[0], blocks


def read_dalle(path: Path, *, renamed: bool = False) -> dict[str, Tensor]:
    """Read an encoder from safetensors.

    Args:
        path: A file of ``flava weights dalle``.
        renamed: Whether the names of other programs are taken too (see ``our_names``).

    Returns:
        fp32 tensors by our names. Kernels lie channels-last, so that the whole is never there
        twice.

    Raises:
        ValueError: It is no such file, or a tensor is of another type.
    """
    try:
        with safe_open(path, framework="pt") as file:
            there = list(file.keys())
            names = our_names(there) if renamed else dict(zip(there, there, strict=True))
            shapes = {ours: tuple(file.get_slice(n).get_shape()) for n, ours in names.items()}
            check_shapes(shapes, str(path))
            for there_name, ours in names.items():
                check_type(ours, str(file.get_slice(there_name).get_dtype()), path)
            return {ours: channels_last(file.get_tensor(n)) for n, ours in names.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: no safetensors file ({error}); {WAY_OUT}") from error


def check_type(name: str, found: str | torch.dtype, path: Path) -> None:
    """Refuse a tensor that is not of floating-point numbers of 16 bits or more.

    Args:
        name: Its name, for the message.
        found: Its type, as torch or safetensors says it.
        path: The file, for the message.

    Raises:
        ValueError: It is of another type.
    """
    if found not in TYPES and found not in TYPES.values():
        raise ValueError(
            f"{path}: {name} is of {found}, and not of float16, bfloat16, float32 or float64; save "
            "the encoder's weights in one of these"
        )


def channels_last(value: Tensor) -> Tensor:
    """Lay a kernel out as the convolutions of this encoder read it.

    Args:
        value: Any tensor.

    Returns:
        The same numbers in fp32, those of four dimensions in channels-last order.
    """
    layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
    return value.float().contiguous(memory_format=layout)
