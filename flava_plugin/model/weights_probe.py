"""The fixed inputs on which implementations are compared, and our side of the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flava_plugin import registry
from flava_plugin.model.backbone import fields_of
from flava_plugin.model.learner import Learner
from flava_plugin.model.parts import build_backbone
from flava_plugin.model.weights_file import Settings
from flava_plugin.model.weights_shapes import EncoderSizes, Sizes
from flava_plugin.sections import ModelSection
from flava_plugin.types import IGNORE, Batch, Widths

ROWS = 3
"""Rows of a batch; the last pair does not match."""

MOST_TOKENS = 16

FEATURES = (
    "image",
    "image_masked",
    "text",
    "text_masked",
    "fused",
    "image_projected",
    "text_projected",
)
"""Fields of ``Features`` that are compared."""

OF_TEXT = ("text", "text_masked", "fused")
"""Those whose last positions are the text's, padding included."""

Found = dict[str, Tensor]
"""Features by field, and mean losses as ``loss.<objective>``."""


def probes(sizes: Sizes) -> dict[str, Batch]:
    """Make the fixed inputs, the same for the same sizes.

    Args:
        sizes: What they are to fit.

    Returns:
        By name: pairs and texts without and with padding, and images. Patches carry codes, so that
        no codebook is needed; ids of real tokens are above 0, which is padding.
    """
    generator = torch.Generator().manual_seed(20220)
    side, length = sizes.image_size, min(MOST_TOKENS, sizes.positions)
    patches = (side // sizes.patch_size) ** 2
    text = torch.randint(1, sizes.words, (ROWS, length), generator=generator)
    image = Batch(
        modality="image",
        image=torch.randn(ROWS, 3, side, side, generator=generator),
        codes=torch.randint(0, max(1, sizes.codes), (ROWS, patches), generator=generator),
        patch_mask=torch.rand(ROWS, patches, generator=generator) < 0.4,
    )
    hidden = torch.rand(ROWS, length, generator=generator) < 0.3
    assert image.patch_mask is not None
    # Something is hidden and something seen in every row, whatever the dice say.
    image.patch_mask[:, 0] = True
    hidden[:, 1] = True
    hidden[:, 0] = False

    def texts(lengths: tuple[int, ...]) -> Batch:
        real = torch.arange(length)[None] < torch.tensor(lengths)[:, None]
        ids, gone = text * real, hidden & real
        return Batch(
            modality="text",
            text=ids,
            text_masked=ids.masked_fill(gone, min(103, sizes.words - 1)),  # BERT's [MASK]
            text_padding=real,
            word_labels=ids.masked_fill(~gone, IGNORE),
        )

    whole, padded = (
        texts((length,) * ROWS),
        texts((length, max(2, length // 2), max(2, length // 3))),
    )
    matched = torch.arange(ROWS) < ROWS - 1

    def pairs(words: Batch) -> Batch:
        return replace(
            words,
            modality="pair",
            image=image.image,
            codes=image.codes,
            patch_mask=image.patch_mask,
            matched=matched,
            positives=matched,
        )

    return {
        "pairs": pairs(whole),
        "pairs padded": pairs(padded),
        "images": image,
        "texts": whole,
        "texts padded": padded,
    }


def without_padding(found: Found, batch: Batch) -> Found:
    """Set states of padding to 0: nobody reads them, and implementations differ there.

    Args:
        found: What a model made of a batch.
        batch: The batch.

    Returns:
        The same, states at padding 0.
    """
    if batch.text_padding is None:
        return found
    clean = dict(found)
    for name in OF_TEXT:
        if name in clean:
            first = clean[name].shape[1] - batch.text_padding.shape[1]
            real = nn.functional.pad(batch.text_padding, (first, 0), value=True)
            clean[name] = clean[name].masked_fill(~real[..., None], 0.0)
    return clean


def build_ours(state: Mapping[str, Tensor], sizes: Sizes, settings: Settings) -> Learner:
    """Build our FLAVA with given weights.

    Args:
        state: Checked weights by our names (``weights.check``).
        sizes: Their sizes.
        settings: What they were made with.

    Returns:
        A learner with the objectives that have weights, in evaluation.
    """
    section = ModelSection.model_validate(
        {
            "image_encoder": {
                "type": "flava_image",
                "image_size": sizes.image_size,
                "patch_size": sizes.patch_size,
                **_options(sizes.image, settings.heads[0]),
            },
            "text_encoder": {
                "type": "flava_text",
                "max_positions": sizes.positions,
                **_options(sizes.text, settings.heads[1]),
            },
            "fused_encoder": {"type": "flava_fused", **_options(sizes.fused, settings.heads[2])},
            "projection": sizes.projection,
            "padding": settings.padding,
        }
    )
    backbone = build_backbone(section, words=sizes.words, seed=0)
    widths = Widths(
        image=sizes.image.width,
        text=sizes.text.width,
        fused=sizes.fused.width,
        projection=sizes.projection,
        words=sizes.words,
        codes=sizes.codes,
        patches=(sizes.image_size // sizes.patch_size) ** 2,
    )
    heads: dict[str, nn.Module] = {}
    losses: dict[str, Any] = {}
    for name in sorted(sizes.objectives):
        (head, options), (loss, loss_options) = _PARTS[name]
        eps = {"norm_eps": settings.norm_eps} if options else {}
        heads[name] = registry.heads.build(head, widths, **options, **eps)
        losses[name] = registry.losses.build(loss, **loss_options)
    learner = Learner(backbone, heads, losses, {name: _MODALITIES[name] for name in heads})
    learner.load_state_dict(dict(state))
    return learner.eval()


def run_ours(learner: Learner, batch: Batch) -> Found:
    """Compute features and mean losses of a batch.

    Args:
        learner: From ``build_ours``.
        batch: One of ``probes``.

    Returns:
        What was found.
    """
    features = learner.backbone(batch, fields_of(batch))
    sums, counts = learner(batch), learner.counts(batch)
    found = {name: getattr(features, name) for name in FEATURES}
    result = {name: value for name, value in found.items() if value is not None}
    for name, count in counts.items():
        if name in sums:
            result[f"loss.{name}"] = sums[name] / count
        else:
            loss: Any = learner.loss_of(name)
            image, text = sums[f"{name}.image"], sums[f"{name}.text"]
            rows = loss.rows(
                image, text, image, text, 0, batch.positives, log_scale=sums[f"{name}.log_scale"]
            )
            result[f"loss.{name}"] = rows.sum() / count
    return without_padding(result, batch)


def _options(sizes: EncoderSizes, heads: int) -> dict[str, int]:
    return {"layers": sizes.layers, "width": sizes.width, "mlp": sizes.mlp, "heads": heads}


_MODALITIES: dict[str, Any] = {
    "mlm": "text",
    "mim": "image",
    "mmm_text": "pair",
    "mmm_image": "pair",
    "itm": "pair",
    "contrastive": "pair",
}
_WORDS = ("masked_ce", {"target": "words"})
_PATCHES = ("masked_ce", {"target": "patches"})
_PARTS: dict[str, Any] = {
    "mlm": (("word_tokens", {"reads": "text"}), _WORDS),
    "mim": (("patch_tokens", {"reads": "image"}), _PATCHES),
    "mmm_text": (("word_tokens", {"reads": "fused"}), _WORDS),
    "mmm_image": (("patch_tokens", {"reads": "fused"}), _PATCHES),
    "itm": (("pair_match", {}), ("matching_ce", {})),
    "contrastive": (("projections", {}), ("global_contrastive", {})),
}
"""Head and loss of each objective, as in ``pretrain/flava_base``."""
