"""How well pictures and captions agree, by a trained model: a score to filter data by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.evaluate.inference import load
from flava_plugin.train import checkpoint as checkpoints
from flava_plugin.types import Sample


def agreement_of(
    run_dir: Path, checkpoint: str
) -> Callable[[Sequence[Sample]], NDArray[np.float32]]:
    """Load a model to score pairs with.

    Args:
        run_dir: Folder of a run with a contrastive objective.
        checkpoint: Which of its checkpoints.

    Returns:
        A function: N pairs -> (N,) float32, the cosine of the two projections.

    Raises:
        ValueError: There is no such run or checkpoint, or it has no projections.
    """
    model = load(run_dir, checkpoint)
    if not any(each.head.type == "projections" for each in model.recipe.objectives.values()):
        raise ValueError(
            f"{run_dir}: its recipe trains no projections; score by a run with the contrastive "
            "objective"
        )

    def agreement(samples: Sequence[Sample]) -> NDArray[np.float32]:
        pictures = [sample.image for sample in samples]
        texts = [sample.text for sample in samples]
        if None in pictures or None in texts:
            raise DamagedSampleError("no text", "a run scores pairs of picture and text alone")
        images = model.encode_image(pictures)
        captions = model.encode_text([text or "" for text in texts])
        cosines: NDArray[np.float32] = (images * captions).sum(1).numpy().astype(np.float32)
        return cosines

    return agreement


def weights_of(run_dir: Path, checkpoint: str) -> str:
    """Name a run's weights by what they are.

    Args:
        run_dir: Folder of a run.
        checkpoint: Which of its checkpoints.

    Returns:
        16 hex digits of its recipe and the digests of its files.

    Raises:
        ValueError: There is no such run or checkpoint.
    """
    recipe = run_dir / "recipe.yaml"
    if not recipe.is_file():
        raise ValueError(f"{run_dir}: no run here (no recipe.yaml); give the run_dir of a training")
    found = checkpoints.find(run_dir, checkpoint)
    content = blake2b(recipe.read_bytes(), digest_size=8)
    content.update(repr(sorted(found.state["files"].items())).encode())
    return content.hexdigest()
