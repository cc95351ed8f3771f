"""A learner with all six objectives, a few thousand weights wide, and batches for it."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from flava_plugin import registry
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.schema import Component
from flava_plugin.sections import ModelSection, ObjectiveSection
from flava_plugin.types import IGNORE, Batch, Modality

WORDS, CODES, SIZE, PATCHES, LENGTH = 30, 8, 8, 4, 6

WEIGHTS = {"mim": 1.0, "mlm": 1.0, "gcl": 2.0, "itm": 0.5, "mmm_text": 1.0, "mmm_image": 1.0}


class GivenCodes(nn.Module):
    """Says how many codes there are; the batches bring theirs."""

    num_codes = CODES

    def forward(self, image: Tensor) -> Tensor:
        raise AssertionError("the batch has codes")


@registry.codebooks.register("given_codes")
def given_codes() -> nn.Module:
    return GivenCodes()


def learner(*, dropout: float = 0.0, seed: int = 0, recompute: bool = False) -> Learner:
    shape = {"layers": 1, "width": 8, "heads": 2, "dropout": dropout}
    model = ModelSection(
        image_encoder=Component(type="flava_image", image_size=SIZE, patch_size=4, **shape),
        text_encoder=Component(type="flava_text", max_positions=LENGTH, **shape),
        fused_encoder=Component(type="flava_fused", **shape),
        codebook=Component(type="given_codes"),
        projection=8,
        init_std=0.3,
        position_std=0.3,
    )
    built = build_learner(
        model,
        objectives(chunk=2 if recompute else 1024),
        words=WORDS,
        image_size=SIZE,
        seed=seed,
        activation_checkpointing=recompute,
    )
    with torch.no_grad():
        built.losses["gcl"].logit_scale.fill_(1.5)
    return built.train()


def objectives(chunk: int) -> dict[str, ObjectiveSection]:
    def masked(modality: Modality, target: str, reads: str) -> ObjectiveSection:
        head = Component(type="word_tokens" if target == "words" else "patch_tokens", reads=reads)
        loss = Component(type="masked_ce", target=target, chunk=chunk)
        return ObjectiveSection(modality=modality, head=head, loss=loss)

    def pair(head: str, loss: str) -> ObjectiveSection:
        return ObjectiveSection(
            modality="pair", head=Component(type=head), loss=Component(type=loss)
        )

    return {
        "mim": masked("image", "patches", "image"),
        "mlm": masked("text", "words", "text"),
        "gcl": pair("projections", "global_contrastive"),
        "itm": pair("pair_match", "matching_ce"),
        "mmm_text": masked("pair", "words", "fused"),
        "mmm_image": masked("pair", "patches", "fused"),
    }


def batch(modality: Modality, rows: int, positives: list[bool] | None = None) -> Batch:
    """The global batch of a step; a function of its arguments alone."""
    draw = torch.Generator().manual_seed(rows)
    text = torch.randint(5, WORDS, (rows, LENGTH), generator=draw)
    hidden = torch.rand(rows, LENGTH, generator=draw) < 0.4
    lengths = torch.randint(3, LENGTH + 1, (rows, 1), generator=draw)
    padding = torch.arange(LENGTH) < lengths
    hidden &= padding
    image: dict[str, Tensor] = {
        "image": torch.randn(rows, 3, SIZE, SIZE, generator=draw),
        "codes": torch.randint(0, CODES, (rows, PATCHES), generator=draw),
        "patch_mask": torch.rand(rows, PATCHES, generator=draw) < 0.5,
    }
    words: dict[str, Tensor] = {
        "text": text,
        "text_masked": text.masked_fill(hidden, 4),
        "text_padding": padding,
        "word_labels": torch.where(hidden, text, IGNORE),
    }
    if modality == "image":
        return Batch("image", **image)
    if modality == "text":
        return Batch("text", **words)
    matched = torch.tensor(positives if positives is not None else [True] * rows)
    return Batch("pair", **image, **words, matched=matched, positives=matched)


def share(whole: Batch, rank: int, size: int, accumulation: int) -> list[Batch]:
    """Rows ``rank::size`` in micro-batches, as the loader deals them."""
    rows = torch.arange(len(whole))[rank::size]
    return [take(whole, part) for part in rows.chunk(accumulation)]


def take(whole: Batch, rows: Tensor) -> Batch:
    values = {f.name: getattr(whole, f.name) for f in fields(whole)}
    chosen = {name: v[rows] for name, v in values.items() if isinstance(v, Tensor)}
    return replace(whole, **chosen)
