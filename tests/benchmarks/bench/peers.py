"""The two public implementations, as they come and at the best settings their users have.

As they come: the model as its constructor makes it, AdamW as torch makes it. Hugging Face gets the
``attention_mask`` of padded texts, as its own processor makes it; torchmultimodal finds padding in
the text encoder by itself and knows none in the multimodal one.

Best: fused AdamW, and torchmultimodal's codebook frozen, so that it builds no graph (Hugging Face's
is). Texts stay as long as they come in both: cutting them to the longest is no setting of either.

Tokens given: Hugging Face takes ``mim_labels``. torchmultimodal has no such argument, but takes any
module as its codebook: here one that hands the tokens through. That is more than its users get.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchmultimodal.models.flava.model import (
    DalleEncoder,
    DalleVAEEncoder,
    FLAVAForPreTraining,
    flava_model,
)
from torchmultimodal.modules.losses.flava import FLAVAPretrainingLoss

from tests.benchmarks.bench.batches import Work
from tests.benchmarks.bench.implementation import LR, Precision
from tests.benchmarks.bench.sizes import CODES, NORM_EPS, WORDS, Size
from tests.benchmarks.bench.stopwatch import Stopwatch

TORCHMULTIMODAL_LOSSES = {
    "mim": "mim_loss",
    "mlm": "mlm_loss",
    "mmm_image": "mmm_image_loss",
    "mmm_text": "mmm_text_loss",
    "itm": "itm_loss",
    "contrastive": "global_contrastive_loss",
}
HUGGING_FACE_LOSSES = {name: name for name in TORCHMULTIMODAL_LOSSES} | {
    "contrastive": "global_contrastive"
}


PUBLISHED_WIDTH = 256
"""Channels of the first group of DALL-E's encoder; ``DalleVAEEncoder`` knows no other."""


class GivenTokens(nn.Module):
    """A codebook whose picture is the tokens already; torchmultimodal writes into what it gets."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.clone()


def torchmultimodal_codebook(size: Size) -> DalleVAEEncoder:
    """torchmultimodal's DALL-E encoder with random weights, trainable as it comes."""
    codebook = DalleVAEEncoder(size.codebook_image, pretrained=False)
    if size.codebook_width != PUBLISHED_WIDTH:
        codebook.encoder = DalleEncoder(n_hid=size.codebook_width, vocab_size=CODES)
    return codebook


def torchmultimodal_model(size: Size) -> FLAVAForPreTraining:
    """torchmultimodal's model for pretraining, its codebook with random weights."""
    options: dict[str, Any] = {}
    for part, layers in zip(("image", "text", "multimodal"), size.layers, strict=True):
        options |= {
            f"{part}_hidden_size": size.width,
            f"{part}_num_attention_heads": size.heads,
            f"{part}_intermediate_size": 4 * size.width,
            f"{part}_num_hidden_layers": layers,
        }
    model = flava_model(
        image_size=size.image,
        patch_size=size.patch,
        vocab_size=WORDS,
        text_and_image_proj_size=size.width,
        **options,
    )
    losses = FLAVAPretrainingLoss(
        hidden_size=size.width,
        text_vocab_size=WORDS,
        image_vocab_size=CODES,
        layer_norm_eps=NORM_EPS,
    )
    return FLAVAForPreTraining(model, torchmultimodal_codebook(size), losses)


def hugging_face_model(size: Size) -> Any:
    """Hugging Face's model for pretraining."""
    from transformers import FlavaConfig, FlavaForPreTraining

    image, text, fused = (
        {
            "hidden_size": size.width,
            "num_attention_heads": size.heads,
            "intermediate_size": 4 * size.width,
            "num_hidden_layers": layers,
        }
        for layers in size.layers
    )
    config = FlavaConfig(
        image_config=image | {"image_size": size.image, "patch_size": size.patch},
        text_config=text,
        multimodal_config=fused,
        image_codebook_config={"hidden_size": size.codebook_width, "vocab_size": CODES},
        hidden_size=size.width,
        projection_dim=size.width,
        ce_ignore_index=-1,  # ours and torchmultimodal's, so that one set of labels serves all
    )
    return FlavaForPreTraining(config)


class Peer(ABC):
    """A peer's training step, as its users write it.

    Args:
        model: Of one of the two.
        best: Whether at its best settings.
    """

    def __init__(self, model: nn.Module, *, best: bool) -> None:
        self.model = model.train()
        options: dict[str, Any] = {"fused": True} if best else {}
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            model.parameters(), lr=LR, **options
        )

    @abstractmethod
    def losses(self, work: Work) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and each loss by our names."""

    def gradients(self, work: Work, precision: Precision, watch: Stopwatch) -> dict[str, Tensor]:
        """Drop the gradients, run forward and backward."""
        device = work.padded.device.type
        watch.mark()
        self.optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            total, losses = self.losses(work)
        watch.mark()
        total.backward()
        watch.mark()
        return {name: loss.detach() for name, loss in losses.items()}

    def update(self) -> None:
        """Make the optimiser's step."""
        self.optimizer.step()


class TorchMultimodal(Peer):
    """torchmultimodal's ``FLAVAForPreTraining``.

    Args:
        model: The model.
        best: Whether at its best settings.
    """

    def __init__(self, model: FLAVAForPreTraining, *, best: bool) -> None:
        super().__init__(model, best=best)
        self._given = FLAVAForPreTraining(model.model, GivenTokens(), model.loss).train()

    def losses(self, work: Work) -> tuple[Tensor, dict[str, Tensor]]:
        """Call it as its examples do and add up its losses."""
        batch = work.padded
        given = batch.codes is not None
        output = (self._given if given else self.model)(
            image=batch.image,
            # Without it a batch of texts costs one pass and not two.
            text=None if work.kind.modality == "text" else batch.text,
            image_for_codebook=batch.codes if given else batch.codebook_image,
            image_patches_mask=batch.patch_mask,
            text_masked=batch.text_masked,
            itm_labels=None if batch.matched is None else batch.matched.long(),
            mlm_labels=batch.word_labels,
        )
        named = {ours: getattr(output.losses, own) for ours, own in TORCHMULTIMODAL_LOSSES.items()}
        found = {name: loss for name, loss in named.items() if loss is not None}
        return torch.stack(list(found.values())).sum(), found


class HuggingFace(Peer):
    """Hugging Face's ``FlavaForPreTraining``."""

    def losses(self, work: Work) -> tuple[Tensor, dict[str, Tensor]]:
        """Call it as its documentation does."""
        batch = work.padded
        padding = batch.text_padding if work.kind.padded else None
        output = self.model(
            input_ids=None if work.kind.modality == "text" else batch.text,  # one pass, not two
            input_ids_masked=batch.text_masked,
            pixel_values=batch.image,
            codebook_pixel_values=batch.codebook_image,
            attention_mask=None if padding is None else padding.long(),
            bool_masked_pos=batch.patch_mask,
            mlm_labels=batch.word_labels,
            # It writes into these labels.
            mim_labels=None if batch.codes is None else batch.codes.clone(),
            itm_labels=None if batch.matched is None else batch.matched.long(),
        )
        info = output.loss_info
        named = {ours: getattr(info, own) for ours, own in HUGGING_FACE_LOSSES.items()}
        return output.loss, {name: loss for name, loss in named.items() if loss is not None}
