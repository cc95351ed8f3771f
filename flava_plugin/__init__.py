"""FLAVA pretraining, fine-tuning and extension on torchmultimodal.

Importing this package imports neither torch nor any component: names below resolve on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import load
    from flava_plugin.registry import (
        balances,
        codebooks,
        datasets,
        encoders,
        evaluators,
        heads,
        losses,
        mixtures,
        tokenizers,
    )
    from flava_plugin.types import Batch, Dataset, Features, Sample, Widths

_HOMES = {
    "load": "flava_plugin.evaluate.inference",
    **dict.fromkeys(
        ("codebooks", "datasets", "encoders", "evaluators", "heads", "losses", "mixtures")
        + ("balances", "tokenizers"),
        "flava_plugin.registry",
    ),
    **dict.fromkeys(("Batch", "Dataset", "Features", "Sample", "Widths"), "flava_plugin.types"),
}

__all__ = [
    "Batch",
    "Dataset",
    "Features",
    "Sample",
    "Widths",
    "balances",
    "codebooks",
    "datasets",
    "encoders",
    "evaluators",
    "heads",
    "load",
    "losses",
    "mixtures",
    "tokenizers",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flava_plugin' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
