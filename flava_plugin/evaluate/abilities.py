"""What a model has no part for is refused by name, so that its other tasks are still measured."""

from __future__ import annotations

from collections.abc import Sequence

from flava_plugin.model.backbone import LackingError


def check_objective(objective: str, known: Sequence[str]) -> None:
    """Refuse an objective that a model has no head for.

    Args:
        objective: Its name.
        known: Names of those it has heads for.

    Raises:
        LackingError: It is none of them.
    """
    if objective not in known:
        raise LackingError(
            f"no objective '{objective}' in this run's recipe; it has {', '.join(known)}"
        )
