"""Same weights, same inputs: the same features, losses and gradients as torchmultimodal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_flava import (
    CODES,
    PATCH,
    SIZE,
    WIDTH,
    WORDS,
    BrightnessCodes,
    image_batch,
    mean_losses,
    objective_sections,
    pair_batch,
    text_batch,
    tiny_learner,
)
from torch import Tensor
from torchmultimodal.models.flava.model import FLAVAForPreTraining, flava_model
from torchmultimodal.modules.losses.flava import FLAVAPretrainingLoss

from flava_plugin.model.backbone import fields_of
from flava_plugin.model.learner import Learner
from flava_plugin.model.weights import from_torchmultimodal, to_torchmultimodal
from flava_plugin.types import Batch

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 5e-5

THEIR_NAMES = {
    "mim": "mim_loss",
    "mlm": "mlm_loss",
    "mmm_image": "mmm_image_loss",
    "mmm_text": "mmm_text_loss",
    "itm": "itm_loss",
    "contrastive": "global_contrastive_loss",
}

BATCHES = {
    "image": image_batch(),
    "text": text_batch(),
    "text padded": text_batch(padded=True),
    "pair": pair_batch(),
    "pair padded": pair_batch(padded=True),
    "pair with negatives": pair_batch(rows=6, negatives=2, padded=True),
    "pair all negative, all counted": pair_batch(negatives=4, positives="all", padded=True),
    "pair of one": pair_batch(rows=1),
}


def peer(seed: int = 0, **loss: Any) -> FLAVAForPreTraining:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = {"hidden_size": WIDTH, "num_attention_heads": 4, "intermediate_size": 4 * WIDTH}
        model = flava_model(
            **{
                f"{part}_{k}": v
                for part in ("image", "text", "multimodal")
                for k, v in encoder.items()
            },
            image_num_hidden_layers=2,
            text_num_hidden_layers=2,
            multimodal_num_hidden_layers=1,
            image_size=SIZE,
            patch_size=PATCH,
            vocab_size=WORDS,
            max_position_embeddings=24,
            text_and_image_proj_size=WIDTH,
        )
        losses = FLAVAPretrainingLoss(
            hidden_size=WIDTH, text_vocab_size=WORDS, image_vocab_size=CODES, **loss
        )
        whole = FLAVAForPreTraining(model, BrightnessCodes(), losses)
        with torch.no_grad():  # away from zero, or tokens and biases would prove nothing
            for parameter in whole.parameters():
                if parameter.dim():
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return whole


def ours(theirs: FLAVAForPreTraining, *, norm_eps: float = 1e-5, **model: Any) -> Learner:
    learner = tiny_learner(objective_sections(norm_eps=norm_eps), **model)
    learner.load_state_dict(from_torchmultimodal(theirs.state_dict()))
    return learner


def their_losses(model: FLAVAForPreTraining, batch: Batch) -> dict[str, Tensor]:
    output = model(
        image=batch.image,
        text=batch.text,
        image_for_codebook=batch.codebook_image,
        image_patches_mask=batch.patch_mask,
        text_masked=batch.text_masked,
        itm_labels=None if batch.matched is None else batch.matched.long(),
        mlm_labels=batch.word_labels,
    )
    found = {name: getattr(output.losses, their) for name, their in THEIR_NAMES.items()}
    return {name: loss for name, loss in found.items() if loss is not None}


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
def test_losses_and_gradients(batch: Batch) -> None:
    theirs = peer()
    learner = ours(theirs, padding="released")
    expected, found = their_losses(theirs, batch), mean_losses(learner, batch)
    assert found.keys() == expected.keys()
    for name in expected:
        assert abs(found[name] - expected[name]) <= LOSS_TOLERANCE, name
    sum(expected.values()).backward()
    sum(found.values()).backward()
    grads, own = gradients(theirs), to_torchmultimodal(gradients(learner), partial=True)
    own = {name: grad for name, grad in own.items() if not name.endswith("decoder.bias")}
    assert own.keys() == grads.keys()
    # The attention cannot see a shift of all keys alike, so this gradient is zero but for rounding,
    # and relative to itself rounding is everything.
    scale = max(float(grad.abs().max()) for grad in grads.values())
    for name, grad in grads.items():
        largest = scale if name.endswith("attention.key.bias") else float(grad.abs().max())
        error = float((own[name] - grad).abs().max())
        assert error <= GRADIENT_TOLERANCE * largest, (name, error, largest)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_chunks_and_recomputed_activations_change_nothing(checkpointing: bool) -> None:
    theirs = peer()
    batch = BATCHES["pair with negatives"]
    learner = tiny_learner(
        objective_sections(chunk=3), activation_checkpointing=checkpointing, padding="released"
    )
    learner.load_state_dict(from_torchmultimodal(theirs.state_dict()))
    expected, found = their_losses(theirs, batch), mean_losses(learner, batch)
    for name in expected:
        assert abs(found[name] - expected[name]) <= LOSS_TOLERANCE, name


@pytest.mark.parametrize("padded", [False, True])
def test_features(padded: bool) -> None:
    theirs, batch = peer(), pair_batch(padded=padded)
    learner = ours(theirs, padding="released")
    expected = theirs.model(batch.image, batch.text, batch.patch_mask, batch.text_masked)
    with torch.no_grad():
        found = learner.backbone(batch, fields_of(batch))
    pairs = {
        "image": expected.image.last_hidden_state,
        "image_masked": expected.image_masked.last_hidden_state,
        "text": expected.text.last_hidden_state,
        "text_masked": expected.text_masked.last_hidden_state,
        "fused": expected.multimodal_masked.last_hidden_state,
        "image_projected": expected.projected_image_embeddings,
        "text_projected": expected.projected_text_embeddings,
    }
    for name, value in pairs.items():
        torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=2e-5)


def test_features_of_unmasked_pairs() -> None:
    theirs, batch = peer(), pair_batch()
    learner = ours(theirs)
    expected = theirs.model(
        batch.image, batch.text, skip_unmasked_mm_encoder=False
    ).multimodal.last_hidden_state
    plain = Batch("pair", image=batch.image, text=batch.text, text_padding=batch.text_padding)
    found = learner.backbone(plain, frozenset({"fused"})).fused
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert batch.image is not None and batch.text is not None
    again = learner.backbone.encode_pair(batch.image, batch.text, batch.text_padding)
    torch.testing.assert_close(again, expected, rtol=0, atol=2e-5)


def test_padding_is_a_choice() -> None:
    """torchmultimodal's multimodal encoder attends to padding; by default ours does not."""
    theirs, batch = peer(), pair_batch(padded=True)
    expected = their_losses(theirs, batch)
    masked = mean_losses(ours(theirs, padding="masked"), batch)
    assert abs(masked["itm"] - expected["itm"]) > 1e-4
    assert abs(masked["mmm_text"] - expected["mmm_text"]) > 1e-4


def test_norm_eps_of_heads_is_a_choice() -> None:
    """1e-12 is Hugging Face's; torchmultimodal can be told to use it."""
    batch = BATCHES["text"]
    theirs = peer(layer_norm_eps=1e-12)
    with torch.no_grad():  # small activations, so that epsilon shows
        theirs.loss.mlm_loss.cls.dense.weight *= 0.02
        theirs.loss.mlm_loss.cls.dense.bias *= 0.02
    expected = their_losses(theirs, batch)["mlm"]
    assert abs(mean_losses(ours(theirs, norm_eps=1e-12), batch)["mlm"] - expected) < 1e-5
    assert abs(mean_losses(ours(theirs, norm_eps=1e-5), batch)["mlm"] - expected) > 1e-4


def test_states_load_both_ways() -> None:
    theirs, other = peer(0), peer(1)
    learner = ours(theirs)
    other.load_state_dict(to_torchmultimodal(learner.state_dict()))
    for name, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_evaluation_leaves_the_logit_scale_alone() -> None:
    """Theirs clamps the parameter in every forward; ours after an optimiser step only."""
    learner = tiny_learner()
    with torch.no_grad():
        learner.losses["contrastive"].logit_scale.fill_(9.0)
    mean_losses(learner, BATCHES["pair"])
    assert learner.losses["contrastive"].logit_scale.item() == 9.0
