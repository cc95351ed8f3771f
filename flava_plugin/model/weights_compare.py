"""Whether two implementations compute the same from the same weights, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flava_plugin.model.weights_file import Settings
from flava_plugin.model.weights_names import Format
from flava_plugin.model.weights_probe import FEATURES, Found, build_ours, probes, run_ours
from flava_plugin.model.weights_shapes import OBJECTIVES, Sizes
from flava_plugin.types import Batch

TOLERANCE = 1e-5
"""Largest difference, relative to the largest value of the tensor where that is above 1."""

Runner = Callable[[Batch], Found]


@dataclass(frozen=True)
class Comparison:
    """Differences of two implementations.

    Attributes:
        differences: By quantity (a field of ``Features`` or ``loss.<objective>``) and probe.
    """

    differences: Mapping[str, Mapping[str, float]]

    @property
    def worst(self) -> float:
        """The largest of all differences; infinite where anything is no number."""
        return max(value for row in self.differences.values() for value in row.values())

    def table(self) -> str:
        """The differences as text: a row for each quantity, a column for each probe."""
        columns = list(dict.fromkeys(name for row in self.differences.values() for name in row))
        lines = ["".join([f"{'largest difference':<20}", *(f"{name:>14}" for name in columns)])]
        for name, row in self.differences.items():
            cells = (
                f"{row[column]:>14.1e}" if column in row else f"{'':>14}" for column in columns
            )
            lines.append("".join([f"{name:<20}", *cells]).rstrip())
        return "\n".join(lines)


def runner(origin: Format, state: Mapping[str, Tensor], sizes: Sizes, settings: Settings) -> Runner:
    """Build an implementation with given weights.

    Args:
        origin: Which one.
        state: Checked weights by our names (``weights.check``).
        sizes: Their sizes.
        settings: What they were made with.

    Returns:
        Batch -> features and losses.
    """
    if origin == "torchmultimodal":
        from flava_plugin.model.weights_upstream import build_upstream, run_upstream

        upstream = build_upstream(state, sizes, settings)
        return lambda batch: run_upstream(upstream, batch, sizes)
    if origin == "hugging_face":
        from flava_plugin.model.hugging_face import build_face, run_face

        face = build_face(state, sizes, settings)
        return lambda batch: run_face(face, batch, sizes)
    learner = build_ours(state, sizes, settings)
    return lambda batch: run_ours(learner, batch)


def compare(
    one: Runner, other: Runner, sizes: Sizes, *, same_padding: bool, padded: bool = True
) -> Comparison:
    """Feed both the same inputs and compare what both compute.

    Args:
        one: An implementation.
        other: Another, with the same weights.
        sizes: Their sizes.
        same_padding: Whether their multimodal encoders do the same with padding; what they make
            of padded pairs is not compared otherwise.
        padded: Whether padded inputs are compared at all.

    Returns:
        The differences.

    Raises:
        ValueError: An implementation does not compute what the other does.
    """
    rows: dict[str, dict[str, float]] = {}
    names = [*FEATURES, *(f"loss.{name}" for name in OBJECTIVES if name in sizes.objectives)]
    of_fused = {"fused", "loss.itm", "loss.mmm_text", "loss.mmm_image"}
    for probe, batch in probes(sizes).items():
        if "padded" in probe and not padded:
            continue
        with torch.no_grad():
            first, second = one(batch), other(batch)
        if first.keys() != second.keys():
            raise ValueError(
                f"{probe}: only one of both computes "
                + ", ".join(sorted(first.keys() ^ second.keys()))
            )
        skipped = of_fused if probe == "pairs padded" and not same_padding else set()
        for name in names:
            if name in first and name not in skipped:
                rows.setdefault(name, {})[probe] = difference(first[name], second[name])
    return Comparison({name: rows[name] for name in names if name in rows})


def difference(one: Tensor, other: Tensor) -> float:
    """Measure how far two tensors are apart.

    Args:
        one: A tensor.
        other: Another of its shape.

    Returns:
        The largest difference over the larger of 1 and the largest value; infinite where the shapes
        differ or either holds what is no number.
    """
    if one.shape != other.shape or not bool((one.isfinite() & other.isfinite()).all()):
        return float("inf")
    largest = max(1.0, float(one.abs().max()))
    return float((one - other).abs().max()) / largest
