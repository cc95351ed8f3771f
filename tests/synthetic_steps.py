"""Steps of a recipe's shapes without its data: texts of one length, masks of the exact counts."""

from __future__ import annotations

from typing import Any

import torch

from flava_plugin.data.collate import pixel_scale
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.plan.workload import Work, hidden_words
from flava_plugin.recipe import Recipe
from flava_plugin.types import IGNORE, Batch


def synthetic_step(recipe: Recipe, work: Work, words: int, patches: int) -> list[Batch]:
    """The micro-batches of one step of one rank; no text has padding."""
    return [
        synthetic_batch(recipe, work, words, patches, seed) for seed in range(work.micro_batches)
    ]


def synthetic_batch(recipe: Recipe, work: Work, words: int, patches: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rows, image, values = work.rows, recipe.data.image, dict[str, Any]()
    if work.kind != "text":
        for name, size in (("image", image.size), ("codebook_image", image.codebook_size)):
            shape = (rows, 3, size, size)
            values[name] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        values["pixels"] = pixel_scale(image)
        order = torch.rand(rows, patches, generator=generator).argsort(1)
        values["patch_mask"] = order < recipe.data.masking.patch_count
    if work.kind != "image":
        length = int(work.tokens)
        text = torch.randint(5, words, (rows, length), generator=generator)
        order = torch.rand(rows, length - 2, generator=generator).argsort(1)
        hidden = torch.zeros(rows, length, dtype=torch.bool)
        hidden[:, 1:-1] = order < hidden_words(length, recipe.data.masking.words)
        values["text"] = text
        values["text_masked"] = text.masked_fill(hidden, 3)
        values["text_padding"] = torch.ones(rows, length, dtype=torch.bool)
        values["word_labels"] = text.masked_fill(~hidden, IGNORE)
    if work.kind == "pair":
        counted = round(rows * (1 - recipe.data.matching.negatives))
        values["matched"] = values["positives"] = torch.arange(rows) < counted
    return Batch(modality=work.kind, **values)


def real_learner(recipe: Recipe, words: int) -> Learner:
    return build_learner(
        recipe.model,
        recipe.objectives,
        words=words,
        image_size=recipe.data.image.size,
        seed=recipe.seed,
        activation_checkpointing=recipe.sharding.activation_checkpointing,
    )
