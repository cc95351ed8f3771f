"""What every implementation offers to the gate and to the clock."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from tests.benchmarks.bench.batches import Work
from tests.benchmarks.bench.stopwatch import Stopwatch

Precision = Literal["fp32", "bf16"]

LR = 1e-6
"""So small that the weights the implementations share stay where they are."""

PARTS = ("forward", "backward", "optimizer")
"""What the four marks of a step enclose; dropping the gradients belongs to the forward."""


class Implementation(Protocol):
    """One way to make a training step.

    Attributes:
        model: The module that holds the parameters.
        optimizer: AdamW over the trainable ones.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def gradients(self, work: Work, precision: Precision, watch: Stopwatch) -> dict[str, Tensor]:
        """Drop the gradients, run forward and backward; three marks.

        Returns:
            Each objective's mean loss by our names, detached.
        """
        ...

    def update(self) -> None:
        """Make the optimiser's step with the gradients there are."""
        ...
