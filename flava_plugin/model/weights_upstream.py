"""torchmultimodal's FLAVA, built from sizes and weights for a comparison with another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmultimodal.models.flava.model import FLAVAForPreTraining, flava_model
from torchmultimodal.modules.losses.flava import FLAVAPretrainingLoss

from flava_plugin.model.weights import to_torchmultimodal
from flava_plugin.model.weights_file import Settings
from flava_plugin.model.weights_probe import FEATURES, Found, without_padding
from flava_plugin.model.weights_shapes import Sizes
from flava_plugin.types import Batch

LOSSES = {
    "mim": "mim_loss",
    "mlm": "mlm_loss",
    "mmm_image": "mmm_image_loss",
    "mmm_text": "mmm_text_loss",
    "itm": "itm_loss",
    "contrastive": "global_contrastive_loss",
}
"""Objective -> its name in ``FLAVAPretrainingLossesCollection``."""


class GivenCodes(nn.Module):
    """Stands where the codebook does: the images it is given are codes already."""

    def forward(self, codes: Tensor) -> Tensor:
        """Hand on codes.

        Args:
            codes: (B, P) long.

        Returns:
            A copy, for torchmultimodal writes into it.
        """
        return codes.clone()


def build_upstream(
    state: Mapping[str, Tensor], sizes: Sizes, settings: Settings
) -> FLAVAForPreTraining:
    """Build torchmultimodal's FLAVA with given weights.

    Args:
        state: Checked weights by our names (``weights.check``).
        sizes: Their sizes.
        settings: What they were made with.

    Returns:
        The model in evaluation; heads without weights in ``state`` are not to be read.
    """
    encoders = {"image": sizes.image, "text": sizes.text, "multimodal": sizes.fused}
    options: dict[str, Any] = {}
    for (name, encoder), heads in zip(encoders.items(), settings.heads, strict=True):
        options |= {
            f"{name}_hidden_size": encoder.width,
            f"{name}_num_attention_heads": heads,
            f"{name}_num_hidden_layers": encoder.layers,
            f"{name}_intermediate_size": encoder.mlp,
        }
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn from the global stream
        model = flava_model(
            **options,
            image_size=sizes.image_size,
            patch_size=sizes.patch_size,
            vocab_size=sizes.words,
            type_vocab_size=sizes.types,
            max_position_embeddings=sizes.positions,
            text_and_image_proj_size=sizes.projection,
        )
        loss = FLAVAPretrainingLoss(
            hidden_size=sizes.fused.width,
            text_vocab_size=sizes.words,
            image_vocab_size=max(1, sizes.codes),
            layer_norm_eps=settings.norm_eps,
        )
    whole = FLAVAForPreTraining(model, GivenCodes(), loss)
    theirs = to_torchmultimodal(state)
    fresh, unknown = whole.load_state_dict(theirs, strict=False)
    assert not unknown and not any(name.startswith("model.") for name in fresh)
    return whole.eval()


def run_upstream(model: FLAVAForPreTraining, batch: Batch, sizes: Sizes) -> Found:
    """Compute features and mean losses of a batch.

    Args:
        model: From ``build_upstream``.
        batch: One of ``weights_probe.probes``.
        sizes: Say which objectives have weights.

    Returns:
        What was found.
    """
    mask, labels = batch.patch_mask, None if batch.matched is None else batch.matched.long()
    output = model.model(batch.image, batch.text, mask, batch.text_masked)
    losses = model(
        image=batch.image,
        text=batch.text,
        image_for_codebook=batch.codes,
        image_patches_mask=mask,
        text_masked=batch.text_masked,
        itm_labels=labels,
        mlm_labels=batch.word_labels,
    ).losses
    states = (
        output.image,
        output.image_masked,
        output.text,
        output.text_masked,
        output.multimodal_masked,
    )
    features = [
        *(part.last_hidden_state for part in states),
        output.projected_image_embeddings,
        output.projected_text_embeddings,
    ]
    found = dict(zip(FEATURES, features, strict=True))
    found |= {f"loss.{name}": getattr(losses, LOSSES[name]) for name in sizes.objectives}
    return without_padding({n: v for n, v in found.items() if v is not None}, batch)
