"""Loading a trained model.

flava_plugin.load("runs/demo").score(["cat.jpg"], ["a cat", "a dog"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from flava_plugin.evaluate.flava import Flava
from flava_plugin.evaluate.loading import load_run, load_weights

__all__ = ["Flava", "load"]


def load(
    run_dir: str | Path,
    checkpoint: str | int = "latest",
    device: str = "auto",
    *,
    overrides: Sequence[str] = (),
    weights: Literal["auto", "ema", "raw"] = "auto",
    recipe: str | Path | None = None,
) -> Flava:
    """Load a trained model.

    Args:
        run_dir: Folder of a run; or a safetensors file by our names, with ``recipe``.
        checkpoint: ``latest``, ``best`` or a number of steps.
        device: ``cpu``, ``cuda`` or such; ``auto`` takes a GPU where there is one and the
            recipe does not say ``cpu``.
        overrides: ``key=value`` changes to the run's recipe, for evaluation tasks and the like.
        weights: ``raw``, ``ema`` (``optim.ema``'s average), or ``auto``: ema where there is one.
        recipe: Name or file of the recipe that a file of weights belongs to.

    Returns:
        The model, ready to use.

    Raises:
        ValueError: The folder holds no recipe or no such checkpoint, or they do not fit.
    """
    path = Path(run_dir)
    if path.suffix == ".safetensors":
        learner, tokenizer, described = load_weights(path, recipe, overrides)
    else:
        learner, tokenizer, described = load_run(path, checkpoint, overrides, weights)
    if device == "auto":
        gpu = described.device != "cpu" and torch.cuda.is_available()
        device = "cuda" if gpu else "cpu"
    return Flava(learner.to(device).eval(), tokenizer, described, device)
