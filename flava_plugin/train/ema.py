"""A moving average of the weights, for evaluation: after every step ema = d * ema + (1 - d) * w.

Every rank averages what it updates, whatever the strategy; to save, load or evaluate the average
it changes places with the weights for a moment. It starts as the first weights, so that with a
decay of d some 1 / (1 - d) steps pass before they are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from flava_plugin.train.pieces import Piece, Shape, Source
from flava_plugin.train.sharding import Strategy


class Ema:
    """The average of the trained weights.

    Args:
        strategy: Holds the weights.
        decay: Above 0, below 1.
    """

    def __init__(self, strategy: Strategy, decay: float) -> None:
        self._strategy = strategy
        self._decay = decay
        self._averages = self._copies()

    def _copies(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._strategy.parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimiser step."""
        for name, value in self._strategy.parameters():
            self._averages[name].lerp_(value, 1.0 - self._decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the learner compute with the average for a while; to the bit as before after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._strategy.parameters():
            weights = value.detach().clone()
            value.copy_(self._averages[name])
            self._averages[name] = weights

    def pieces(self, *, spread: bool) -> list[Piece]:
        """Copy this rank's part of the average to the CPU.

        Args:
            spread: Whether ranks share the work of what all of them hold.

        Returns:
            Pieces of the trained parameters, which make a whole with those of other ranks.
        """
        with self.applied():
            pieces = self._strategy.pieces(spread=spread)[0]
        return [piece for piece in pieces if piece.name in self._averages]

    def load(self, model: Source, averages: Source) -> None:
        """Take over a saved average; the strategy ends with the saved weights.

        Args:
            model: All saved weights.
            averages: The saved average, of the trained ones.
        """
        self._strategy.load_model(_Over(model, averages))
        self._averages = self._copies()
        self._strategy.load_model(model)


class _Over:
    """Some tensors of one source in place of another's."""

    def __init__(self, below: Source, above: Source) -> None:
        self._below = below
        self._above = above
        self.shapes: Mapping[str, Shape] = {**below.shapes, **above.shapes}

    def part(self, name: str, start: int, stop: int) -> Tensor:
        source = self._above if name in self._above.shapes else self._below
        return source.part(name, start, stop)
