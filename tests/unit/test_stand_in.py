"""torchmultimodal's own wrappers run on our encoders, and our heads and losses on its model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peer_models import TINY, GivenCodes, batches, encoder_sizes, learner, torchmultimodal
from side_by_side import (
    GRADIENT_TOLERANCE,
    TOLERANCE,
    gradient_error,
    gradients,
    run_torchmultimodal,
)
from tiny_flava import tiny_learner
from torch import nn
from torchmultimodal.models.flava.model import (
    FLAVAForClassification,
    FLAVAForPreTraining,
    FLAVAModel,
    flava_model,
)

from flava_plugin.model.backbone import Backbone
from flava_plugin.model.stand_in import stand_in
from flava_plugin.model.weights import from_torchmultimodal
from flava_plugin.types import Widths

BATCHES = batches()
WIDTHS = Widths(32, 32, 32, 32, words=TINY.words, codes=TINY.codes, patches=16)


def with_stand_in(theirs: FLAVAForPreTraining, **options: Any) -> FLAVAForPreTraining:
    return FLAVAForPreTraining(
        stand_in(theirs.model, **options), GivenCodes(), copy.deepcopy(theirs.loss)
    )


def compare(found: Any, expected: Any) -> None:
    """Every tensor of two outputs, hidden states and attentions aside."""
    for field in expected._fields:
        own, their = getattr(found, field), getattr(expected, field)
        if field.startswith("projected"):
            own, their = (own,), (their,)
        else:
            own, their = own[:2], their[:2]
        for one, other in zip(own, their, strict=True):
            assert (one is None) == (other is None), field
            if one is not None:
                torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", BATCHES)
def test_pretraining_losses_and_gradients_are_upstreams(kind: str) -> None:
    theirs, batch = torchmultimodal(), BATCHES[kind]
    ours = with_stand_in(theirs)
    expected, found = (run_torchmultimodal(each, batch)[1] for each in (theirs, ours))
    assert found.keys() == expected.keys()
    for name in expected:
        assert abs(found[name] - expected[name]) <= TOLERANCE, name
    for each in (expected, found):
        torch.stack(list(each.values())).sum().backward()
    error, name = gradient_error(gradients(ours), gradients(theirs))
    assert error <= GRADIENT_TOLERANCE, name
    ungraded = [{n for n, p in m.named_parameters() if p.grad is None} for m in (theirs, ours)]
    assert ungraded[0] == ungraded[1]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("required", [None, "image", "text", "mm"])
@pytest.mark.parametrize("given", ["image", "text", "text_masked", "both", "all"])
def test_every_way_to_call_it_gives_upstreams_output(given: str, required: Any, skip: bool) -> None:
    theirs, batch = torchmultimodal().model, BATCHES["pair padded"]
    inputs = {
        "image": {"image": batch.image},
        "text": {"text": batch.text},
        "text_masked": {"text_masked": batch.text_masked},
        "both": {"image": batch.image, "text": batch.text},
        "all": {
            "image": batch.image,
            "text": batch.text,
            "image_patches_mask": batch.patch_mask,
            "text_masked": batch.text_masked,
        },
    }[given]
    options = {"required_embedding": required, "skip_unmasked_mm_encoder": skip}
    compare(stand_in(theirs)(**inputs, **options), theirs(**inputs, **options))


def test_encode_methods_give_upstreams_output() -> None:
    whole, batch = torchmultimodal(), BATCHES["pair padded"]
    theirs, ours = whole.model, stand_in(whole.model, every_layer=True)
    assert batch.image is not None and batch.text is not None and batch.text_padding is not None
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("encode_image", (batch.image, None, True)),
        ("encode_image", (batch.image, batch.patch_mask, True)),
        ("encode_text", (batch.text, None, True)),
        ("encode_text", (batch.text, torch.ones_like(batch.text), True)),
    ]
    for name, arguments in calls:
        (own, projected), (their, expected) = (
            getattr(model, name)(*arguments) for model in (ours, theirs)
        )
        torch.testing.assert_close(own[:2], their[:2], rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(projected, expected, rtol=0, atol=TOLERANCE)
    for model in (theirs, ours):
        assert model.encode_mm(None, torch.zeros(1, 2, 32)) == (None,) * 6
    last = [model.encode_image(batch.image).hidden_states[-1] for model in (theirs, ours)]
    words = [model.encode_text(batch.text).hidden_states[-1] for model in (theirs, ours)]
    fused = [
        model.encode_mm(*pair).last_hidden_state
        for model, *pair in zip((theirs, ours), last, words, strict=True)
    ]
    torch.testing.assert_close(fused[1], fused[0], rtol=0, atol=TOLERANCE)
    own_projection = with_stand_in(whole).encode_text(batch.text)
    torch.testing.assert_close(own_projection, whole.encode_text(batch.text), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="text_mask is"):
        ours.encode_text(batch.text, batch.text_padding[:, None, None])


def test_layers_are_kept_where_asked_for_and_are_upstreams() -> None:
    theirs, batch = torchmultimodal().model, BATCHES["pair padded"]
    inputs = (batch.image, batch.text, batch.patch_mask, batch.text_masked)
    plain, watched = (stand_in(theirs, every_layer=each)(*inputs) for each in (False, True))
    expected = theirs(*inputs)
    for field in ("image", "image_masked", "text", "text_masked", "multimodal_masked"):
        assert getattr(plain, field)[2:4] == (None, None)
        for part in ("hidden_states", "attentions"):
            own, their = (getattr(getattr(each, field), part) for each in (watched, expected))
            torch.testing.assert_close(own, their, rtol=0, atol=TOLERANCE)
    assert watched.text.hidden_states[-1].requires_grad


def test_layers_of_a_foreign_encoder_are_refused() -> None:
    theirs = torchmultimodal().model
    foreign = Backbone(*(Foreign(e) for e in encoders_of(theirs)), projection=32)
    assert stand_in(foreign).image_encoder is foreign.image_encoder
    with pytest.raises(ValueError, match=r"every_layer: Foreign, .*leave every_layer out"):
        stand_in(foreign, every_layer=True)


class Foreign(nn.Module):
    width = 32

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


def encoders_of(model: FLAVAModel) -> tuple[nn.Module, nn.Module, nn.Module]:
    return model.image_encoder, model.text_encoder, model.mm_encoder


@pytest.mark.parametrize("required", ["image", "text", "mm"])
def test_classification_is_upstreams(required: str) -> None:
    theirs, batch = torchmultimodal().model, BATCHES["pair padded"]
    labels = torch.tensor([0, 2, 1, 2])
    results = []
    for model in (theirs, stand_in(theirs)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            whole = FLAVAForClassification(model, nn.Linear(32, 3), nn.CrossEntropyLoss())
        found = whole(batch.image, batch.text, required, labels)
        found.loss.backward()
        results.append((found, gradients(whole)))
    (expected, grads), (found, own) = results
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=TOLERANCE)
    assert gradient_error(own, grads)[0] <= GRADIENT_TOLERANCE


def test_checkpoints_load_strictly_both_ways() -> None:
    theirs, other = torchmultimodal(seed=0), torchmultimodal(seed=1)
    ours = with_stand_in(other)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    other.load_state_dict(ours.state_dict(), strict=True)
    for name, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_a_backbones_weights_are_shared_and_a_models_copied() -> None:
    own = tiny_learner().backbone
    assert stand_in(own).image_projection is own.image_projection
    theirs = torchmultimodal().model
    theirs.image_encoder.requires_grad_(False)
    theirs.double().eval()
    made = stand_in(theirs)
    assert not made.training and not made.image_encoder.training
    for (name, mine), (known, their) in zip(
        sorted(made.named_parameters()), sorted(theirs.named_parameters()), strict=True
    ):
        assert name == known and mine.requires_grad == their.requires_grad
        assert torch.equal(mine, their) and mine.dtype == torch.float64
        assert mine.data_ptr() != their.data_ptr()


@pytest.mark.parametrize("kind", ["pair", "pair padded"])
def test_padding_is_masked_where_asked_for(kind: str) -> None:
    """As in the learner with ``model.padding: masked``, whose encoders then leave padding out."""
    theirs, batch = torchmultimodal(), BATCHES[kind]
    own = learner(from_torchmultimodal(theirs.state_dict()), TINY, "hugging_face")
    for padding in ("masked", "released"):
        with torch.no_grad():
            expected = own.backbone(batch, frozenset({"fused"})).fused
            output = stand_in(own.backbone, padding=padding)(  # type: ignore[arg-type]
                batch.image, batch.text, batch.patch_mask, batch.text_masked
            )
        real = batch.text_padding
        assert real is not None
        where = torch.cat([real.new_ones(4, 18), real], dim=1)
        found = output.multimodal_masked.last_hidden_state
        same = bool((found - expected)[where].abs().max() <= TOLERANCE)
        assert same == (padding == "masked" or kind == "pair")
        if padding == "released":  # a backbone's own way is left as it was
            compare(
                output, theirs.model(batch.image, batch.text, batch.patch_mask, batch.text_masked)
            )
    assert torch.equal(own.backbone(batch, frozenset({"fused"})).fused, expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_dropout": 0.1}, "image_encoder: dropout is 0.1"),
        ({"text_intermediate_activation": nn.ReLU}, "text_encoder: activation is"),
        ({"multimodal_layer_norm_eps": 1e-5}, "mm_encoder: epsilon of the layer norms is 1e-05"),
        ({"use_image_masking": False}, "mask token is False"),
        ({"pad_token_id": 1}, "padding id is 1"),
        ({"num_channels": 1}, "channels is 1"),
    ],
)
def test_a_model_computed_otherwise_is_refused(change: dict[str, Any], said: str) -> None:
    sizes = {**encoder_sizes(TINY), "image_size": 32, "patch_size": 8, "vocab_size": 50}
    with torch.device("meta"):
        model = flava_model(**{**sizes, **change})
    with pytest.raises(ValueError, match=said):
        stand_in(model)


def test_foreign_encoders_are_refused() -> None:
    model = torchmultimodal().model
    model.text_encoder = nn.Identity()
    with pytest.raises(ValueError, match="text_encoder is a Identity"):
        stand_in(model)
