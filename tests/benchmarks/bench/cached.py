"""The cached contrastive step: memory at a large global batch, and the plain step's gradients.

At the sizes of ``pretrain/shapes``: pictures of 48 pixels, 2/2/1 layers of width 96.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flava_plugin.data.collate import pixel_scale, split
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.recipe import Recipe, load_recipe
from flava_plugin.train.sharding.replicated import Replicated
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from flava_plugin.types import IGNORE, Batch
from tests.benchmarks.bench.batches import noise

RECIPE = "pretrain/shapes"
WORDS = 512
"""Size of the vocabulary; the recipe's own is of this order."""

MICRO_BATCH = 64
SMALL, LARGE = 512, 4096
"""Global batches whose peaks are compared."""

EQUAL_AT = 256
"""Global batch at which gradients are compared."""

WORLD = World(rank=0, size=1, local_rank=0, device=torch.device("cpu"))


def _learner(recipe: Recipe) -> Learner:
    return build_learner(
        recipe.model,
        recipe.objectives,
        words=WORDS,
        image_size=recipe.data.image.size,
        seed=0,
    ).train()


def _batch(recipe: Recipe, rows: int) -> Batch:
    generator = torch.Generator().manual_seed(rows)
    image, length = recipe.data.image, recipe.data.text.pair_length
    patches = (image.size // recipe.model.image_encoder.options["patch_size"]) ** 2
    scores = torch.rand(rows, patches, generator=generator)
    mask = torch.zeros(rows, patches, dtype=torch.bool)
    mask.scatter_(1, scores.topk(recipe.data.masking.patch_count).indices, True)
    lengths = torch.randint(8, length + 1, (rows, 1), generator=generator)
    padding = torch.arange(length)[None] < lengths
    text = torch.randint(5, WORDS, (rows, length), generator=generator) * padding
    hidden = padding & (torch.rand(rows, length, generator=generator) < recipe.data.masking.words)
    matched = torch.rand(rows, generator=generator) >= recipe.data.matching.negatives
    return Batch(
        modality="pair",
        image=noise(rows, image.size, generator),
        codebook_image=noise(rows, image.codebook_size, generator),
        pixels=pixel_scale(image),
        patch_mask=mask,
        text=text,
        text_masked=text.masked_fill(hidden, 3),
        text_padding=padding,
        word_labels=text.masked_fill(~hidden, IGNORE),
        matched=matched,
        positives=matched,
    )


def _gradients(strategy: Replicated, learner: Learner, recipe: Recipe, parts: list[Batch]) -> None:
    weights = {name: section.weight for name, section in recipe.objectives.items()}
    train_step(strategy, learner, parts, weights, WORLD, (0,))


def step_of(rows: int) -> Callable[[], None]:
    """One whole training step of a global batch, in micro-batches of ``MICRO_BATCH``.

    The batch is in memory before: it is there whatever the step does, as in a run.
    """
    recipe = load_recipe(RECIPE)
    learner = _learner(recipe)
    strategy = Replicated(learner, recipe.optim, WORLD)
    parts = split(_batch(recipe, rows), MICRO_BATCH)

    def step() -> None:
        _gradients(strategy, learner, recipe, parts)
        strategy.clip_grad_norm(recipe.optim.clip_norm)
        strategy.step()

    return step


def gradient_error() -> tuple[float, str]:
    """Hold the cached step's gradients against those of one plain step over the same rows.

    Returns:
        Largest difference over largest gradient of the worst tensor, and its name. Key biases,
        whose gradient is nought but rounding, are taken relative to the largest gradient of all.
    """
    recipe = load_recipe(RECIPE)
    learner = _learner(recipe)
    strategy = Replicated(learner, recipe.optim, WORLD)
    whole = _batch(recipe, EQUAL_AT)
    found: list[dict[str, Tensor]] = []
    for parts in (split(whole, EQUAL_AT), split(whole, MICRO_BATCH)):
        _gradients(strategy, learner, recipe, parts)
        named = learner.named_parameters()
        found.append({n: p.grad.clone() for n, p in named if p.grad is not None})
    plain, cached = found
    assert plain.keys() == cached.keys(), plain.keys() ^ cached.keys()
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    errors = {}
    for name, gradient in plain.items():
        scale = largest if name.endswith("attention.key.bias") else float(gradient.abs().max())
        errors[name] = float((cached[name] - gradient).abs().max()) / scale
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst
