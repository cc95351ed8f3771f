"""Which evaluation was the best one, and whether it is time to stop waiting for a better one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flava_plugin.sections import EvaluateSection

Results = Mapping[str, Mapping[str, float | int]]


class Best:
    """The best evaluation of a run so far.

    Args:
        section: The recipe's ``evaluate``.
        saved: The state of a checkpoint, with what ``state`` gave; empty for a new run.

    Attributes:
        found: ``step`` and ``value`` of the best evaluation; None before the first one.
        stale: Evaluations since then.
    """

    def __init__(self, section: EvaluateSection, saved: Mapping[str, Any]) -> None:
        self._section = section
        self.found: dict[str, Any] | None = saved.get("best")
        self.stale: int = saved.get("stale", 0)

    @property
    def enough(self) -> bool:
        """Whether ``evaluate.patience`` evaluations in a row were no better."""
        patience = self._section.patience
        return patience is not None and self.stale >= patience

    def consider(self, step: int, results: Results) -> bool:
        """Take note of an evaluation.

        Args:
            step: Optimiser steps done.
            results: Figures by task.

        Returns:
            Whether it is the best one so far; never without ``evaluate.metric``. A figure that is
            no number is not.
        """
        value = _figure(results, self._section.metric)
        if value is None:
            return False
        sign = -1.0 if self._section.lower_is_better else 1.0
        better = value == value and (
            self.found is None or sign * value > sign * self.found["value"]
        )
        if better:
            self.found = {"step": step, "value": value}
        self.stale = 0 if better else self.stale + 1
        return better

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.found, "stale": self.stale}


def _figure(results: Results, metric: str | None) -> float | None:
    if metric is None:
        return None
    task, _, name = metric.partition(".")
    if name not in results[task]:
        known = ", ".join(results[task])
        raise ValueError(f"evaluate.metric: task '{task}' gives no '{name}'; it gives {known}")
    return float(results[task][name])
