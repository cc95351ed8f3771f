"""A FLAVA small enough for a test, and batches that fit it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flava_plugin import registry
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.sections import ModelSection, ObjectiveSection
from flava_plugin.types import IGNORE, Batch

WORDS, CODES, WIDTH, SIZE, PATCH = 50, 11, 32, 32, 8
PATCHES = (SIZE // PATCH) ** 2
LENGTH = 12
MASK_ID = 3


class BrightnessCodes(nn.Module):
    """Codes by the brightness of a patch; without weights, so that states compare strictly."""

    num_codes = CODES

    def forward(self, image: Tensor) -> Tensor:
        patches = nn.functional.adaptive_avg_pool2d(image.mean(1), SIZE // PATCH)
        return (patches.flatten(1) * 977).long() % CODES


@contextmanager
def registered(kind: str, name: str, builder: Any) -> Iterator[None]:
    """Register a component for the length of a test."""
    components = registry.REGISTRIES[kind]
    components.register(name)(builder)
    try:
        yield
    finally:
        components._decorated.pop(name)


def brightness_codes() -> nn.Module:
    return BrightnessCodes()


def model_section(**changes: Any) -> ModelSection:
    encoder = {"width": WIDTH, "heads": 4}
    options: dict[str, Any] = {
        "image_encoder": {
            "type": "flava_image",
            "layers": 2,
            "image_size": SIZE,
            "patch_size": PATCH,
            **encoder,
        },
        "text_encoder": {"type": "flava_text", "layers": 2, "max_positions": 24, **encoder},
        "fused_encoder": {"type": "flava_fused", "layers": 1, **encoder},
        "codebook": {"type": "brightness_codes"},
        "projection": WIDTH,
        "init_std": 0.1,
        "position_std": 0.1,
    }
    return ModelSection.model_validate({**options, **changes})


def objective_sections(
    *names: str, chunk: int = 1024, norm_eps: float = 1e-5
) -> dict[str, ObjectiveSection]:
    def masked(target: str, reads: str) -> dict[str, Any]:
        head = {"words": "word_tokens", "patches": "patch_tokens"}[target]
        return {
            "head": {"type": head, "reads": reads, "norm_eps": norm_eps},
            "loss": {"type": "masked_ce", "target": target, "chunk": chunk},
        }

    known: dict[str, Any] = {
        "mim": {"modality": "image", **masked("patches", "image")},
        "mlm": {"modality": "text", **masked("words", "text")},
        "mmm_image": {"modality": "pair", **masked("patches", "fused")},
        "mmm_text": {"modality": "pair", **masked("words", "fused")},
        "itm": {
            "modality": "pair",
            "head": {"type": "pair_match"},
            "loss": {"type": "matching_ce"},
        },
        "contrastive": {
            "modality": "pair",
            "head": {"type": "projections"},
            "loss": {"type": "global_contrastive"},
        },
    }
    chosen = names or tuple(known)
    return {name: ObjectiveSection.model_validate(known[name]) for name in chosen}


def tiny_learner(
    objectives: dict[str, ObjectiveSection] | None = None,
    *,
    seed: int = 0,
    activation_checkpointing: bool = False,
    **model: Any,
) -> Learner:
    with registered("codebooks", "brightness_codes", brightness_codes):
        return build_learner(
            model_section(**model),
            objective_sections() if objectives is None else objectives,
            words=WORDS,
            image_size=SIZE,
            seed=seed,
            activation_checkpointing=activation_checkpointing,
        )


def image_batch(rows: int = 4, seed: int = 0, masked: float = 0.4) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        modality="image",
        image=torch.randn(rows, 3, SIZE, SIZE, generator=generator),
        codebook_image=torch.rand(rows, 3, 16, 16, generator=generator),
        patch_mask=torch.rand(rows, PATCHES, generator=generator) < masked,
    )


def text_batch(rows: int = 4, seed: int = 0, masked: float = 0.3, padded: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed + 1000)
    text = torch.randint(5, WORDS, (rows, LENGTH), generator=generator)
    padding = torch.ones(rows, LENGTH, dtype=torch.bool)
    if padded:
        lengths = torch.randint(4, LENGTH + 1, (rows,), generator=generator)
        padding = torch.arange(LENGTH)[None] < lengths[:, None]
        text = text * padding
    hidden = (torch.rand(rows, LENGTH, generator=generator) < masked) & padding
    hidden[:, 0] = False
    return Batch(
        modality="text",
        text=text,
        text_masked=text.masked_fill(hidden, MASK_ID),
        text_padding=padding,
        word_labels=text.masked_fill(~hidden, IGNORE),
    )


def pair_batch(
    rows: int = 4,
    seed: int = 0,
    *,
    padded: bool = False,
    negatives: int = 0,
    positives: str = "matched",
    masked: float = 0.4,
) -> Batch:
    """Pairs; the first ``negatives`` do not match, and count or not as ``positives`` says."""
    matched = torch.arange(rows) >= negatives
    counted = {
        "matched": matched,
        "all": torch.ones_like(matched),
        "none": torch.zeros_like(matched),
    }
    image, text = image_batch(rows, seed, masked), text_batch(rows, seed, masked, padded)
    return dataclasses.replace(
        text,
        modality="pair",
        image=image.image,
        codebook_image=image.codebook_image,
        patch_mask=image.patch_mask,
        matched=matched,
        positives=counted[positives],
    )


def mean_losses(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """Each objective's mean over the rows that count, the batch being the whole global batch."""
    sums, counts = learner(batch), learner.counts(batch)
    means = {name: sums[name] / counts[name] for name in counts if name in sums}
    for name in counts.keys() - sums.keys():
        loss: Any = learner.loss_of(name)
        image, text = sums[f"{name}.image"], sums[f"{name}.text"]
        positives = batch.positives
        assert positives is not None
        rows = loss.rows(
            image, text, image, text, 0, positives, log_scale=sums[f"{name}.log_scale"]
        )
        means[name] = rows.sum() / counts[name]
    return means
