"""A peer's FLAVA and ours run on the same weights and inputs, and how far apart they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from peer_models import TINY, Peer, Sizes, hugging_face, learner, torchmultimodal
from tiny_flava import mean_losses
from torch import Tensor, nn
from torchmultimodal.models.flava.model import FLAVAForPreTraining

from flava_plugin.model.backbone import fields_of
from flava_plugin.model.learner import Learner
from flava_plugin.model.weights import from_hugging_face, from_torchmultimodal, to_hugging_face
from flava_plugin.types import IGNORE, Batch, Features

TOLERANCE = 1e-5
"""Of features and losses, fp32."""

GRADIENT_TOLERANCE = 5e-5
"""Largest difference within a tensor over the tensor's largest gradient."""

LOSSES: dict[Peer, dict[str, str]] = {
    "torchmultimodal": {
        "mim": "mim_loss",
        "mlm": "mlm_loss",
        "mmm_image": "mmm_image_loss",
        "mmm_text": "mmm_text_loss",
        "itm": "itm_loss",
        "contrastive": "global_contrastive_loss",
    },
    "hugging_face": {
        "mim": "mim",
        "mlm": "mlm",
        "mmm_image": "mmm_image",
        "mmm_text": "mmm_text",
        "itm": "itm",
        "contrastive": "global_contrastive",
    },
}


def run_torchmultimodal(
    model: FLAVAForPreTraining, batch: Batch
) -> tuple[Features, dict[str, Tensor]]:
    """Features and losses by our names."""
    kept: list[Any] = []
    handle = model.model.register_forward_hook(lambda module, inputs, output: kept.append(output))
    output = model(
        image=batch.image,
        text=batch.text,
        image_for_codebook=batch.codes,
        image_patches_mask=batch.patch_mask,
        text_masked=batch.text_masked,
        itm_labels=None if batch.matched is None else batch.matched.long(),
        mlm_labels=batch.word_labels,
    )
    handle.remove()
    return Features.from_torchmultimodal(kept[0]), named("torchmultimodal", output.losses)


def run_hugging_face(model: Any, batch: Batch) -> tuple[Features, dict[str, Tensor]]:
    """Features and losses by our names."""
    labels = batch.word_labels
    output = model(
        input_ids=batch.text,
        input_ids_masked=batch.text_masked,
        pixel_values=batch.image,
        attention_mask=None if batch.text_padding is None else batch.text_padding.long(),
        bool_masked_pos=batch.patch_mask,
        mim_labels=None if batch.codes is None else batch.codes.clone(),  # it writes into them
        mlm_labels=None if labels is None else labels.masked_fill(labels == IGNORE, -100),
        itm_labels=None if batch.matched is None else batch.matched.long(),
    )
    image, text = output.image_embeddings, output.text_embeddings
    features = Features(
        image=image,
        image_masked=output.image_masked_embeddings,
        text=text,
        text_masked=output.text_masked_embeddings,
        # not multimodal_masked_embeddings, which lose the mismatched pairs
        fused=getattr(output.multimodal_masked_output, "last_hidden_state", None),
        image_projected=None if image is None else model.flava.image_projection(image[:, 0]),
        text_projected=None if text is None else model.flava.text_projection(text[:, 0]),
    )
    return features, named("hugging_face", output.loss_info)


def named(peer: Peer, losses: Any) -> dict[str, Tensor]:
    found = {name: getattr(losses, their) for name, their in LOSSES[peer].items()}
    return {name: loss for name, loss in found.items() if loss is not None}


def feature_error(own: Learner, theirs: Features, batch: Batch, *, padding: bool) -> float:
    """Largest difference of any feature, at padding too where ``padding``."""
    with torch.no_grad():
        found = own.backbone(batch, fields_of(batch))
    errors = []
    for field in fields_of(batch):
        difference = (getattr(found, field) - getattr(theirs, field)).abs()
        real = batch.text_padding
        if not padding and real is not None and field in ("text", "text_masked", "fused"):
            difference[:, -real.shape[1] :][~real] = 0.0
        assert difference.isfinite().all(), field
        errors.append(difference.max().item())
    return max(errors)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """By name of a weight, each under all its names; 0 where no loss reads it."""
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in model.state_dict(keep_vars=True).items()
    }


def gradient_error(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> tuple[float, str]:
    """Largest difference over a tensor's largest gradient, and in which tensor."""
    assert own.keys() == theirs.keys()
    # The attention cannot see a shift of all keys alike, so this gradient is zero but for rounding,
    # and relative to itself rounding is everything.
    scale = max(float(grad.abs().max()) for grad in theirs.values())
    errors = []
    for name, grad in theirs.items():
        largest = scale if name.endswith("attention.key.bias") else float(grad.abs().max())
        error = float((own[name] - grad).abs().max())
        errors.append((error / largest if largest else error, name))
    return max(errors)


@dataclasses.dataclass(frozen=True)
class Both:
    """A peer and ours with its semantics, on the same weights, each converted from the peer's."""

    peer: Peer
    theirs: Any
    own: Learner

    def run(self, batch: Batch) -> tuple[Features, dict[str, Tensor]]:
        runs = {"torchmultimodal": run_torchmultimodal, "hugging_face": run_hugging_face}
        return runs[self.peer](self.theirs, batch)

    def gradients(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Ours and theirs, by our names."""
        names = {"torchmultimodal": from_torchmultimodal, "hugging_face": from_hugging_face}
        return gradients(self.own), names[self.peer](gradients(self.theirs))


def both(peer: Peer, sizes: Sizes = TINY, *, share: bool = False) -> Both:
    """Build a peer with random weights, convert them and build ours; ``share`` copies none."""
    theirs: Any = torchmultimodal(sizes)
    state = from_torchmultimodal(theirs.state_dict())
    if peer == "hugging_face":
        theirs = hugging_face(sizes)
        theirs.load_state_dict(to_hugging_face(state), assign=share)
        theirs.tie_weights()
        state = from_hugging_face(theirs.state_dict())
    return Both(peer, theirs, learner(state, sizes, peer, share=share))


def compare(pair: Both, batch: Batch, *, backward: bool) -> dict[str, float]:
    """Largest differences: of features, of losses and, after a backward pass, of gradients."""
    with torch.set_grad_enabled(backward):
        features, expected = pair.run(batch)
        found = mean_losses(pair.own, batch)
    assert found.keys() == expected.keys() and all(v.isfinite() for v in expected.values())
    errors = {"losses": max(abs(found[name].item() - expected[name].item()) for name in expected)}
    if batch.modality == "pair":  # which has those of an image and of a text
        released = pair.own.backbone.padding == "released"
        errors["features"] = feature_error(pair.own, features, batch, padding=released)
    if backward:
        for losses in (expected, found):
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        errors["gradients"], _ = gradient_error(*pair.gradients())
        for model in (pair.own, pair.theirs):
            model.zero_grad()
    return errors


LIMITS = {"features": TOLERANCE, "losses": TOLERANCE, "gradients": GRADIENT_TOLERANCE}


def check(errors: Mapping[str, float], record_property: Any) -> None:
    """Note what was measured (``-s`` shows it, a JUnit file keeps it) and hold it to its limit."""
    for what, error in errors.items():
        record_property(what, error)
    print(", ".join(f"{what} {error:.1e}" for what, error in errors.items()))
    for what, error in errors.items():
        assert error <= LIMITS[what], (what, error)
