"""Rows of one modality -> a batch: stacked pictures, padded texts, labels as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from flava_plugin.data.transforms import Item
from flava_plugin.pixels import PixelScale
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import IGNORE, Batch, Modality

_ARRAYS = ("image", "codebook_image", "codes", "patch_mask") + (
    "text",
    "text_masked",
    "word_labels",
)


class UnequalRowsError(ValueError):
    """Rows of a batch disagree in what they hold.

    Args:
        text: The message.
        rows: Which rows show it.
    """

    def __init__(self, text: str, rows: tuple[int, ...]) -> None:
        super().__init__(text)
        self.rows = rows


def collate(
    items: Sequence[Item],
    modality: Modality,
    *,
    pad_id: int,
    pixels: PixelScale,
    count_all: bool = False,
) -> Batch:
    """Make a batch; texts are padded to the longest among them.

    Args:
        items: Rows of the same modality.
        modality: What they hold.
        pad_id: Id of padding.
        pixels: What the rows' pictures, which stay in uint8, are to become.
        count_all: Whether MMM and the contrastive loss count rows that do not match
            (``Order.counts_all``).

    Returns:
        The batch, on the CPU. ``matched`` and ``positives`` are set for pairs only.

    Raises:
        ValueError: There is no row, or rows disagree in what they hold (``UnequalRowsError`` names
            those whose labels do).
    """
    if not items:
        raise ValueError("a batch needs at least one row")
    values = {name: _values(items, name) for name in _ARRAYS}
    text = values["text"]
    matched = torch.tensor([item.matched for item in items]) if modality == "pair" else None
    return Batch(
        modality=modality,
        image=_stack(values["image"]),
        codebook_image=_stack(values["codebook_image"]),
        codes=_stack(values["codes"]),
        patch_mask=_stack(values["patch_mask"]),
        text=_pad(text, pad_id),
        text_masked=_pad(values["text_masked"], pad_id),
        text_padding=_pad(None if text is None else [np.ones(len(ids), bool) for ids in text], 0),
        word_labels=_pad(values["word_labels"], IGNORE),
        matched=matched,
        positives=None if matched is None else matched | count_all,
        pixels=None if values["image"] is None else pixels,
        extra=_labels([item.extra for item in items]),
    )


def pixel_scale(section: ImageSection, with_codebook: bool = False) -> PixelScale:
    """Say what pictures become.

    Args:
        section: The recipe's ``data.image``.
        with_codebook: Whether the codebook's picture is wanted.

    Returns:
        Its scale; with the codebook's size where its picture is made on the device.
    """
    on_device = with_codebook and section.codebook_view == "device"
    size = section.codebook_size if on_device else None
    return PixelScale(section.mean, section.std, section.codebook_range, size)


@dataclass(frozen=True)
class Padding:
    """How far the texts of a micro-batch are padded.

    Attributes:
        pad_id: Id of padding.
        multiple: Of how many tokens their length is to be; 1 for the longest text's.
        longest: Most tokens of a text, by modality.
    """

    pad_id: int
    multiple: int = 1
    longest: Mapping[str, int] = field(default_factory=dict)

    def length(self, needed: int, modality: Modality) -> int:
        """Choose a length.

        Args:
            needed: Tokens of the longest text.
            modality: Of the batch.

        Returns:
            The length.
        """
        rounded = -(-needed // self.multiple) * self.multiple
        return max(needed, min(rounded, self.longest.get(modality, rounded)))

    @property
    def values(self) -> dict[str, int]:
        """What stands in padding, by field of ``Batch``."""
        return {
            "text": self.pad_id,
            "text_masked": self.pad_id,
            "text_padding": False,
            "word_labels": IGNORE,
        }


def split(batch: Batch, rows: int, padding: Padding | None = None) -> list[Batch]:
    """Cut a batch into micro-batches, each padded only as far as need be.

    Args:
        batch: The batch.
        rows: Most rows of a micro-batch.
        padding: How far; None for the longest text of the micro-batch.

    Returns:
        The same rows, in order; they share the batch's memory where they can.
    """
    padding = padding or Padding(0)
    starts = range(0, len(batch), rows)
    return [_cut(batch, slice(start, start + rows), padding) for start in starts]


def _cut(batch: Batch, rows: slice, padding: Padding) -> Batch:
    length = 0
    if batch.text_padding is not None:
        needed = int(batch.text_padding[rows].sum(1).max())
        length = padding.length(needed, batch.modality)
    changes: dict[str, Any] = {}
    for name in (*_ARRAYS, "text_padding", "matched", "positives"):
        tensor = getattr(batch, name)
        if tensor is None:
            continue
        part = tensor[rows]
        if name in padding.values:
            part = part[:, :length]
            if part.shape[1] < length:
                part = pad(part, (0, length - part.shape[1]), value=padding.values[name])
        changes[name] = part.contiguous()
    return replace(
        batch, **changes, extra={name: tensor[rows] for name, tensor in batch.extra.items()}
    )


def _values(items: Sequence[Item], name: str) -> list[NDArray[Any]] | None:
    values = [value for item in items if (value := getattr(item, name)) is not None]
    if values and len(values) < len(items):
        raise ValueError(
            f"{len(items) - len(values)} of {len(items)} rows have no {name.replace('_', ' ')}; "
            "the rows of a batch must hold the same"
        )
    return values or None


def _stack(arrays: list[NDArray[Any]] | None) -> Tensor | None:
    return None if arrays is None else torch.from_numpy(np.stack(arrays))


def _pad(rows: list[NDArray[Any]] | None, value: int) -> Tensor | None:
    if rows is None:
        return None
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)


def _labels(extras: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Stack numeric labels: whole numbers as int64, others as float32; strings are left out."""
    stacked = {}
    for name in sorted(set().union(*extras)):
        lacking = tuple(row for row, extra in enumerate(extras) if name not in extra)
        if lacking:
            raise UnequalRowsError(
                f"label '{name}' is missing in {len(lacking)} of {len(extras)} rows; a dataset "
                "must give it for every sample or for none",
                lacking[:1],
            )
        values = [extra[name] for extra in extras]
        forms = [_form(name, row, value) for row, value in enumerate(values)]
        other = next((row for row, form in enumerate(forms) if form != forms[0]), None)
        if other is not None:
            raise UnequalRowsError(
                f"label '{name}' is {values[0]!r:.60} in one row and {values[other]!r:.60} in "
                "another; it must be of one form, and lists of one length",
                (0, other),
            )
        if forms[0] == "string":
            continue
        array = np.array(values)
        whole = array.dtype.kind in "biu"
        stacked[name] = torch.from_numpy(array.astype(np.int64 if whole else np.float32))
    return stacked


def _form(name: str, row: int, value: Any) -> str | tuple[int, ...]:
    """Tell strings, numbers and lists of each length apart."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths in one another
        array = np.asarray(None)
    if array.dtype.kind in "US":
        return "string"
    if array.dtype.kind not in "biuf":
        text = f"label '{name}' is {value!r:.60}; it must be a number, a list of them or a string"
        raise UnequalRowsError(text, (row,))
    return array.shape
