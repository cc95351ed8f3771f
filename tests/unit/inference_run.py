"""A run folder of a tiny model whose weights are the first ones, for tests of what uses a run."""

from __future__ import annotations

from pathlib import Path

from flava_plugin.model.learner import build_learner
from flava_plugin.recipe import load_recipe
from flava_plugin.registry import tokenizers
from flava_plugin.train import run_folder, saving

SMALL = (
    "model.image_encoder.width=16",
    "model.text_encoder.width=16",
    "model.fused_encoder.width=16",
    "model.projection=8",
    "device=cpu",
    "threads=1",
    "seed=3",
)


def write_run(folder: Path, *overrides: str) -> Path:
    """Write the folder.

    Args:
        folder: Where to.
        *overrides: Changes to the embedded recipe beyond ``SMALL``.
    """
    recipe = load_recipe("pretrain/shapes", [*SMALL, *overrides, f"run_dir={folder}"])
    words = tokenizers.build(recipe.data.tokenizer.type).vocab_size
    learner = build_learner(recipe.model, recipe.objectives, words=words, image_size=48, seed=1)
    token = run_folder.claim(folder)
    saving.save(folder, 1, learner.state_dict(), {}, {}, token=token, keep=3)
    run_folder.describe(folder, recipe.to_yaml())
    return folder
