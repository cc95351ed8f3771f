"""How much damage is put up with, and how it is told when there is more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class TooMuchDamageError(RuntimeError):
    """More of the data is damaged than the budget allows."""


@dataclass(frozen=True)
class Budget:
    """Damaged samples that are put up with.

    Attributes:
        count: So many, whatever the size of the data.
        share: Of all samples, where that allows more.
    """

    count: int = 0
    share: float = 0.0

    def allowed(self, samples: int) -> int:
        """Turn the budget into a number.

        Args:
            samples: How many there are.

        Returns:
            How many may be damaged.
        """
        return max(self.count, int(self.share * samples))


def read_budget(text: str) -> Budget:
    """Read a budget from a word.

    Args:
        text: ``100``: so many; ``0.01`` or ``1%``: a share.

    Returns:
        The budget.

    Raises:
        ValueError: It is neither.
    """
    if text.isdecimal():
        return Budget(count=int(text))
    percent = text.endswith("%")
    try:
        share = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"'{text}' is no number of samples such as 100, nor a share such as 0.01")
    return Budget(share=share)


def damage_message(counts: Mapping[str, int], examples: Mapping[str, str], allowed: int) -> str:
    """Say what is damaged.

    Args:
        counts: Samples by reason.
        examples: One of each, in words.
        allowed: How many were put up with.

    Returns:
        A line, and one for each reason.
    """
    lines = [f"{sum(counts.values())} samples are damaged, more than the {allowed} of --budget"]
    lines += [
        f"  {number} x {reason}, such as {examples.get(reason, '?')}"
        for reason, number in sorted(counts.items())
    ]
    return "\n".join(lines)
