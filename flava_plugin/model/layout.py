"""Which positions of a batch are computed: the whole rectangle, or packed, only those that count.

Between the attentions of a transformer every position stands alone, so linear layers, norms and
activations run on (N, D) tokens, whichever rows they come from. A ``Layout`` says where each token
stands, and lays tokens out as rows where attention needs rows.

Legend for shapes: R rows, L positions of a row, N tokens that are computed, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flava_plugin.rows import pick, place

PACK_ABOVE = {"cpu": 0.10, "cuda": 0.10}
"""Share of padding from which packing costs less than it saves, by kind of device.

CPU: measured (``tests/benchmarks/RESULTS.md``). CUDA: not measured, taken from the CPU.
"""


@dataclass(frozen=True)
class Layout:
    """Where N tokens stand in R rows of L positions.

    Attributes:
        rows: R.
        length: L.
        index: (N,) long, the tokens' places among all R * L, ascending; None where every position
            is a token, N = R * L.
        real: (R, L) bool, True where a key may be attended to; None for everywhere.
        sees: (1 or R, Q, L) bool of causal attention, True at the keys that stand no later than a
            query; None where every query sees every key.
    """

    rows: int
    length: int
    index: Tensor | None = None
    real: Tensor | None = None
    sees: Tensor | None = None

    @property
    def mask(self) -> Tensor | None:
        """(R, 1, 1, L) bool for attention over padded rows, True where it may look."""
        return None if self.real is None else self.real[:, None, None, :]

    def pack(self, padded: Tensor) -> Tensor:
        """Take the tokens out of their rows.

        Args:
            padded: (R, L, D).

        Returns:
            (N, D).
        """
        flat = padded.flatten(0, 1)
        return flat if self.index is None else pick(flat, self.index)

    def unpack(self, tokens: Tensor, fill: float = 0.0) -> Tensor:
        """Lay the tokens out as rows.

        Args:
            tokens: (N, D).
            fill: What stands where there is no token.

        Returns:
            (R, L, D).
        """
        if self.index is not None:
            tokens = place(tokens, self.index, self.rows * self.length, fill)
        return tokens.view(self.rows, self.length, tokens.shape[-1])

    def lengths(self) -> Tensor:
        """Count the tokens of each row.

        Returns:
            (R,) long.
        """
        assert self.index is not None, "only of a packed layout"
        return torch.bincount(self.index // self.length, minlength=self.rows)


@dataclass(frozen=True)
class Reading:
    """The tokens of a layout whose output is read: what the last layer computes.

    Attributes:
        source: (n,) long, their places among the layout's N tokens.
        queries: Their layout as rows of queries, as short as the fullest row allows.
        outputs: Their layout in the rows they came from.
    """

    source: Tensor
    queries: Layout
    outputs: Layout


def mask_of(queries: Layout, keys: Layout) -> Tensor | None:
    """What attention over padded rows may look at.

    Args:
        queries: Layout of the queries; its rows are those of ``keys``.
        keys: Layout of the keys.

    Returns:
        (1 or R, 1, 1 or Q, L) bool, True where it may look; None for everywhere. Causal attention
        needs no mask of padding, which stands behind all that is real.
    """
    return keys.mask if queries.sees is None else queries.sees[:, None]


def lay_out(
    x: Tensor, padding: Tensor | None, *, may_pack: bool = True, causal: bool = False
) -> Layout:
    """Decide whether padding is computed.

    Args:
        x: (R, L, D).
        padding: (R, L) bool, True at real positions, False at padding; None for no padding.
        may_pack: Whether to leave padding out where that is worth it.
        causal: Whether a position sees none behind it.

    Returns:
        A packed layout where the share of padding is above ``PACK_ABOVE``, else the rectangle.
    """
    rows, length = x.shape[:2]
    sees = None
    if causal:
        sees = torch.ones(1, length, length, dtype=torch.bool, device=x.device).tril()
    if padding is None or not may_pack:
        return Layout(rows, length, None, padding, sees)
    index = padding.flatten().nonzero().squeeze(1)
    share = 1 - len(index) / (rows * length)
    if share == 0:
        return Layout(rows, length, sees=sees)
    worth = share > PACK_ABOVE.get(x.device.type, 1.0)
    return Layout(rows, length, index if worth else None, padding, sees)


def reading_of(layout: Layout, read: Tensor) -> Reading:
    """Find the tokens that are read.

    Args:
        layout: Of all tokens.
        read: (R, L) bool, True where the output is read; padding is passed over.

    Returns:
        The tokens and their layouts.
    """
    if layout.index is not None and layout.real is not None:
        read = read & layout.real  # there is nothing at padding
    rows, length = read.shape
    places = read.flatten().nonzero().squeeze(1)
    source = places
    if layout.index is not None:
        source = torch.searchsorted(layout.index, places)
    slots = read.cumsum(1)
    widest = max(1, int(slots[:, -1].max()))  # one empty place where nothing at all is read
    index: Tensor | None = (places // length) * widest + (slots.flatten()[places] - 1)
    sees = None
    if layout.sees is not None:
        assert index is not None
        at = places.new_zeros(rows * widest)  # an empty place sees the first key, so no NaN arises
        at[index] = places % length
        sees = layout.sees[0][at.view(rows, widest)]
    if len(places) == rows * widest:
        index = None  # every row reads as many, such as its [CLS]
    return Reading(source, Layout(rows, widest, index, sees=sees), Layout(rows, length, places))
