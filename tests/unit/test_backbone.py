from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from tiny_flava import image_batch, pair_batch, text_batch, tiny_learner
from torch import nn

from flava_plugin.model.backbone import Backbone, draws, fields_of
from flava_plugin.types import Batch, Features


def backbone(**model: object) -> Backbone:
    return tiny_learner(**model).backbone  # type: ignore[arg-type]


def rows_seen(module: nn.Module) -> list[int]:
    """Rows of each call of a module, noted from now on."""
    seen: list[int] = []
    module.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


def test_only_needed_passes_run() -> None:
    model = backbone()
    image, text, fused = (
        rows_seen(m) for m in (model.image_encoder, model.text_encoder, model.mm_encoder)
    )
    model(image_batch(4), frozenset({"image_masked"}))
    assert (image, text, fused) == ([4], [], [])
    model(text_batch(4), frozenset({"text_masked"}))
    assert (image, text, fused) == ([4], [4], [])
    model(pair_batch(4), frozenset({"image_projected", "text_projected"}))
    assert (image, text, fused) == ([4, 4], [4, 4], [])
    model(pair_batch(4), frozenset({"fused", "image_projected", "text_projected"}))
    assert (image, text, fused) == ([4, 4, 8], [4, 4, 8], [4])


def test_only_needed_features_are_returned() -> None:
    found = backbone()(pair_batch(), frozenset({"fused", "text_projected"}))
    given = {field.name for field in fields(Features) if getattr(found, field.name) is not None}
    assert given == {"fused", "text_projected"}


def test_clean_and_masked_in_one_forward_equal_two() -> None:
    model, batch = backbone(), pair_batch(padded=True)
    together = model(batch, fields_of(batch))
    for name in fields_of(batch):
        alone = getattr(model(batch, frozenset({name})), name)
        torch.testing.assert_close(getattr(together, name), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("embeddings", [True, False])
@pytest.mark.parametrize(
    ("masked", "more"), [(True, "fused"), (False, "fused.cls"), (True, "image"), (True, "text")]
)
def test_dropout_is_replayed_by_the_embedding_pass(
    masked: bool, more: str, embeddings: bool
) -> None:
    """The cached contrastive loss relies on it: same seed, same clean passes."""
    encoder = {"layers": 1, "width": 32, "heads": 4, "dropout": 0.3}
    model = backbone(
        image_encoder={"type": "flava_image", "image_size": 32, "patch_size": 8, **encoder},
        text_encoder={"type": "flava_text", **encoder},
    )
    if not embeddings:  # as in an encoder of which only the layers drop
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        model._drops = any(map(draws, model.modules()))
    batch = pair_batch(padded=True)
    if not masked:
        batch = replace(batch, patch_mask=None, text_masked=None, word_labels=None)
    projected = frozenset({"image_projected", "text_projected"})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        cached = model(batch, projected)
        torch.manual_seed(3)
        again = model(batch, projected | {more})
    assert torch.equal(cached.image_projected, again.image_projected)
    assert torch.equal(cached.text_projected, again.text_projected)


@pytest.mark.parametrize("padding", ["masked", "released"])
def test_more_padding_changes_nothing_unless_released(padding: str) -> None:
    model, batch = backbone(padding=padding), pair_batch(padded=True)
    assert batch.text is not None and batch.text_padding is not None
    more = torch.zeros(len(batch), 5, dtype=torch.long)
    longer = replace(
        batch,
        text=torch.cat([batch.text, more], 1),
        text_masked=torch.cat([batch.text_masked, more], 1),
        text_padding=torch.cat([batch.text_padding, more.bool()], 1),
    )
    short, long = (model(b, frozenset({"fused"})).fused for b in (batch, longer))
    real = torch.cat([torch.ones(len(batch), 18, dtype=torch.bool), batch.text_padding], 1)
    difference = float((short - long[:, : short.shape[1]])[real].detach().abs().max())
    assert (difference < 1e-5) == (padding == "masked")


def test_unmasked_pairs_are_fused_as_they_are() -> None:
    model, batch = backbone(), pair_batch(padded=True)
    plain = replace(batch, patch_mask=None, text_masked=None, word_labels=None)
    assert batch.image is not None and batch.text is not None
    by_hand = model.encode_pair(batch.image, batch.text, batch.text_padding)
    torch.testing.assert_close(model(plain, frozenset({"fused"})).fused, by_hand)
    only_text = replace(plain, text_masked=batch.text_masked)
    assert not torch.allclose(model(only_text, frozenset({"fused"})).fused, by_hand)


def test_encode_methods_agree_with_forward() -> None:
    model, batch = backbone(), pair_batch(padded=True)
    assert batch.image is not None and batch.text is not None
    found = model(batch, frozenset({"image", "text", "image_projected", "text_projected"}))
    states, projected = model.encode_image(batch.image)
    torch.testing.assert_close(states, found.image)
    torch.testing.assert_close(projected, found.image_projected)
    states, projected = model.encode_text(batch.text, batch.text_padding)
    torch.testing.assert_close(states, found.text)
    torch.testing.assert_close(projected, found.text_projected)


@pytest.mark.parametrize(
    ("batch", "field", "lacking"),
    [
        (replace(image_batch(), patch_mask=None), "image_masked", "patch_mask"),
        (replace(text_batch(), text_masked=None), "text_masked", "text_masked"),
        (image_batch(), "text", "text"),
        (text_batch(), "image_projected", "image"),
    ],
)
def test_a_field_the_batch_cannot_give(batch: Batch, field: str, lacking: str) -> None:
    with pytest.raises(ValueError, match=f"batch has no {lacking};"):
        backbone()(batch, frozenset({field}))


def test_an_encoder_without_width_is_refused() -> None:
    encoders = [nn.Identity(), nn.Identity(), nn.Identity()]
    with pytest.raises(ValueError, match="model.image_encoder: Identity has no attribute 'width'"):
        Backbone(*encoders, projection=8)


def test_projections_stay_fp32_under_autocast() -> None:
    model, batch = backbone(), pair_batch()
    projected = frozenset({"image_projected", "text_projected", "fused"})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(batch, projected)
    exact = model(batch, projected)
    assert found.image_projected.dtype == found.text_projected.dtype == torch.float32
    assert found.fused.dtype == torch.float32
    torch.testing.assert_close(found.image_projected, exact.image_projected, rtol=0.1, atol=0.1)
