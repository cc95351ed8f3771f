"""Before any timing: the same losses and gradients, or no number.

Where texts are padded, Hugging Face with its mask computes what ours does by default, and
torchmultimodal what ours does with ``padding: released``. Elsewhere both compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import torch
from torch import Tensor

from tests.benchmarks.bench.batches import Work
from tests.benchmarks.bench.implementation import Implementation, Precision
from tests.benchmarks.bench.rig import OURS, RELEASED
from tests.benchmarks.bench.stopwatch import Stopwatch

LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
"""Of a tensor: largest difference over largest gradient."""

ZERO_GRADIENT = "attention.key.bias"
"""End of names whose gradient is nought but rounding: a shift of all keys alike is not seen.

Relative to itself its error would be everything; it is taken relative to the largest gradient.
"""


@dataclass(frozen=True)
class Verdict:
    """How far ours and a peer are apart on one batch, in fp32.

    Attributes:
        peer: Its name.
        ours: Which of our two readings of padding it was held against.
        loss_error: Largest difference of a loss.
        gradient_error: Largest relative difference of a tensor's gradient.
        tensor: Our name of that tensor.
    """

    peer: str
    ours: str
    loss_error: float
    gradient_error: float
    tensor: str

    @property
    def passed(self) -> bool:
        """Whether the peer may be timed against ours; no number is no pass."""
        return self.loss_error <= LOSS_TOLERANCE and self.gradient_error <= GRADIENT_TOLERANCE


def check(rig: Mapping[str, Implementation], work: Work) -> list[Verdict]:
    """Hold every peer of a rig against ours.

    Args:
        rig: Of ``build_rig``, with ours in it.
        work: The batch that will be timed.
    """
    verdicts = []
    expected: dict[str, tuple[dict[str, float], dict[str, Tensor]]] = {}
    for name, implementation in rig.items():
        if name in (OURS, RELEASED):
            continue
        reading = reading_of(name, work)
        if reading not in expected:
            expected[reading] = _computed(rig[reading], rig[OURS], work)
        verdicts.append(
            _compare(name, reading, _computed(implementation, rig[OURS], work), expected[reading])
        )
    return verdicts


def reading_of(peer: str, work: Work) -> str:
    """Which of ours computes what a peer does."""
    padded_pairs = work.kind.modality == "pair" and work.kind.padded
    return RELEASED if padded_pairs and peer.startswith("torchmultimodal") else OURS


def distances(
    implementation: Implementation, names_from: Implementation, works: Sequence[Work]
) -> dict[str, float]:
    """How far bf16 takes each tensor's gradient from the same implementation's in fp32.

    Args:
        implementation: Whose.
        names_from: Ours, which names the shared parameters.
        works: Batches; the mean over them is taken.

    Returns:
        Largest difference over largest gradient by tensor. Left out are those of ``ZERO_GRADIENT``
        and the logit scale: how far a single number is off relative to itself says more about how
        near it is to nought.
    """
    found: dict[str, list[float]] = {}
    for work in works:
        exact = _computed(implementation, names_from, work)[1]
        rounded = _computed(implementation, names_from, work, "bf16")[1]
        for name, gradient in exact.items():
            largest = float(gradient.abs().max())
            if largest and gradient.dim() and not name.endswith(ZERO_GRADIENT):
                found.setdefault(name, []).append(_apart(rounded[name], gradient, largest))
    return {name: mean(errors) for name, errors in found.items()}


def summary(errors: Mapping[str, float]) -> dict[str, float | str]:
    """Median and worst of ``distances``, and which tensor is the worst."""
    worst = max(errors, key=lambda name: errors[name])
    return {"median": median(errors.values()), "worst": errors[worst], "tensor": worst}


def _computed(
    implementation: Implementation,
    names_from: Implementation,
    work: Work,
    precision: Precision = "fp32",
) -> tuple[dict[str, float], dict[str, Tensor]]:
    losses = implementation.gradients(work, precision, Stopwatch())
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in names_from.model.named_parameters()
    }
    implementation.optimizer.zero_grad()
    return {name: float(loss) for name, loss in losses.items()}, gradients


Computed = tuple[dict[str, float], dict[str, Tensor]]


def _compare(peer: str, reading: str, found: Computed, expected: Computed) -> Verdict:
    losses, gradients = found
    if losses.keys() != expected[0].keys():
        return Verdict(peer, reading, math.inf, math.inf, f"losses {sorted(losses)}")
    # Not max(): it would pass over what is no number.
    loss_error = torch.tensor([abs(losses[n] - expected[0][n]) for n in losses]).max()
    sizes = {name: float(gradient.abs().max()) for name, gradient in gradients.items()}
    errors = {
        name: _apart(
            expected[1][name],
            gradient,
            max(sizes.values()) if name.endswith(ZERO_GRADIENT) else sizes[name],
        )
        for name, gradient in gradients.items()
    }
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    return Verdict(peer, reading, float(loss_error), errors[worst], worst)


def _apart(found: Tensor, expected: Tensor, scale: float) -> float:
    difference = float((found - expected).abs().max())
    return difference / scale if scale else (math.inf if difference else 0.0)
