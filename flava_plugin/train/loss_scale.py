"""The loss's scale under fp16: as large as gradients bear, so that small ones do not vanish.

Not torch's GradScaler, which looks for infinities in the gradients that one rank has: here the norm
that clipping computes anyway, over all ranks and shards, says whether there was one. So every rank
decides alike, under every strategy.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

logger = logging.getLogger(__name__)

FIRST = 65536.0
"""First scale (torch.amp.GradScaler: 2^16)."""

LARGEST = 2.0**24

GROWTH_INTERVAL = 2000
"""Steps without overflow until the scale is doubled (torch.amp.GradScaler: 2000)."""


class LossScale:
    """A power of two that halves at an overflow and doubles after a long time without one.

    Args:
        enabled: Whether there is anything to do; otherwise the scale is 1 and every step is made.

    Attributes:
        value: What the loss is multiplied by.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.value = FIRST if enabled else 1.0
        self._steps = 0

    def allows(self, norm: Tensor) -> bool:
        """Say whether the gradients may be used, and adapt the scale.

        Args:
            norm: Of all gradients, unscaled, the same on every rank.

        Returns:
            False where there was an overflow: the step is left out.

        Raises:
            FloatingPointError: There are overflows even without a scale.
        """
        if not self.enabled:
            return True
        if norm.isfinite():
            self._steps += 1
            if self._steps >= GROWTH_INTERVAL:
                self.value, self._steps = min(self.value * 2, LARGEST), 0
            return True
        if self.value <= 1.0:
            raise FloatingPointError(
                "gradients overflow in fp16 at every scale of the loss; set precision=bf16 or fp32"
            )
        self.value, self._steps = self.value / 2, 0
        logger.info(
            "gradients overflow in fp16: the step is left out, and the loss's scale is %g from now",
            self.value,
        )
        return False

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"value": self.value, "steps": self._steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where a run stopped.

        Args:
            state: What ``state`` gave.
        """
        if self.enabled:
            self.value, self._steps = float(state["value"]), int(state["steps"])
