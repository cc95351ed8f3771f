"""What Hugging Face's FLAVA does where it differs: the column of this folder's README, tested."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from peer_models import TINY, batches, hugging_face, learner
from side_by_side import (
    TOLERANCE,
    Both,
    both,
    feature_error,
    gradient_error,
    gradients,
    run_hugging_face,
)
from tiny_flava import mean_losses

from flava_plugin.model.weights import from_hugging_face, to_hugging_face
from flava_plugin.types import Batch

transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's FLAVA")

BATCHES = batches()
PADDED = BATCHES["pair padded"]


OLD = int(transformers.__version__.split(".")[0]) < 5
"""Whether transformers is of the last releases that work with torch 2.3."""


@pytest.fixture
def pair() -> Both:
    return both("hugging_face")


def called(model: Any, batch: Batch, **changes: Any) -> Any:
    """Its forward, with arguments of a pair batch changed."""
    assert batch.word_labels is not None and batch.matched is not None
    arguments = {
        "input_ids": batch.text,
        "input_ids_masked": batch.text_masked,
        "pixel_values": batch.image,
        "attention_mask": batch.text_padding,
        "bool_masked_pos": batch.patch_mask,
        "mim_labels": batch.codes.clone() if batch.codes is not None else None,
        "mlm_labels": batch.word_labels.masked_fill(batch.word_labels < 0, -100),
        "itm_labels": batch.matched.long(),
    }
    return model(**{**arguments, **changes})


def test_weights_go_round_bit_for_bit(pair: Both) -> None:
    theirs, ours = pair.theirs.state_dict(), pair.own.state_dict()
    for start, end in (
        (theirs, to_hugging_face(from_hugging_face(theirs))),
        (ours, from_hugging_face(to_hugging_face(ours))),
    ):
        assert end.keys() == start.keys()
        assert all(torch.equal(end[name], start[name]) for name in start)
    hugging_face().load_state_dict(to_hugging_face(ours), strict=True)


def test_padding_is_masked_where_the_caller_gives_a_mask(pair: Both) -> None:
    """Without one it is attended to in both encoders, which no other implementation does."""
    unmasked = dataclasses.replace(PADDED, text_padding=None)
    features, losses = run_hugging_face(pair.theirs, unmasked)
    assert feature_error(pair.own, features, PADDED, padding=False) > 0.01
    found = mean_losses(pair.own, unmasked)
    assert all(abs(found[name] - losses[name]) <= TOLERANCE for name in losses)
    released = learner(pair.own.state_dict(), TINY, "hugging_face", padding="released")
    with_mask = run_hugging_face(pair.theirs, PADDED)[1]
    assert abs(mean_losses(released, PADDED)["itm"] - with_mask["itm"]) > 1e-4


def test_epsilon_of_the_heads(pair: Both) -> None:
    with torch.no_grad():  # small activations, so that epsilon shows
        for model in (pair.theirs.mlm_head.transform, pair.own.heads["mlm"].cls):
            model.dense.weight *= 0.02
            model.dense.bias *= 0.02
    batch = BATCHES["text"]
    expected = run_hugging_face(pair.theirs, batch)[1]["mlm"]
    torchmultimodals = learner(pair.own.state_dict(), TINY, "torchmultimodal")
    assert abs(mean_losses(pair.own, batch)["mlm"] - expected) <= TOLERANCE
    assert abs(mean_losses(torchmultimodals, batch)["mlm"] - expected) > 1e-4


def test_all_rows_count_where_none_matches(pair: Both) -> None:
    none = torch.zeros(4, dtype=torch.bool)
    batch = dataclasses.replace(PADDED, matched=none, positives=~none)
    expected, found = run_hugging_face(pair.theirs, batch)[1], mean_losses(pair.own, batch)
    for losses in (expected, found):
        torch.stack(list(losses.values())).sum().backward()
    assert all(abs(found[name] - expected[name]) <= TOLERANCE for name in expected)
    assert gradient_error(*pair.gradients())[0] <= 5e-5


def test_nothing_masked_is_not_a_number(pair: Both) -> None:
    batch = BATCHES["image"]
    assert batch.patch_mask is not None
    bare = dataclasses.replace(batch, patch_mask=torch.zeros_like(batch.patch_mask))
    assert run_hugging_face(pair.theirs, bare)[1]["mim"].isnan()


@pytest.mark.parametrize("training", [False, True])
def test_the_logit_scale_is_clamped_in_training_alone(pair: Both, training: bool) -> None:
    model = pair.theirs.train(training)
    with torch.no_grad():
        model.flava.logit_scale.fill_(9.0)
    called(model, PADDED)
    always = OLD  # before 5.0 in an evaluation too
    assert model.flava.logit_scale.item() == pytest.approx(4.6052 if training or always else 9.0)


def test_defaults_of_the_configuration() -> None:
    config = transformers.FlavaConfig()
    assert (config.projection_dim, config.logit_scale_init_value) == (768, 2.6592)
    assert config.ce_ignore_index == -100
    assert config.image_config.layer_norm_eps == config.text_config.layer_norm_eps == 1e-12
    weights = [getattr(config, name) for name in vars(config) if name.endswith("_weight")]
    assert weights == [1.0] * 6


def test_heads_are_as_wide_as_their_own_encoder() -> None:
    sizes = {"num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 8}
    config = transformers.FlavaConfig(
        image_config={"hidden_size": 8, **sizes},
        text_config={"hidden_size": 16, "vocab_size": 50, **sizes},
        multimodal_config={"hidden_size": 32, **sizes},
        init_codebook=False,
    )
    model = transformers.FlavaForPreTraining(config)
    assert model.mmm_image_head.transform.dense.in_features == 8
    assert model.mmm_text_head.transform.dense.in_features == 16


def test_labels_of_pairs_are_flat(pair: Both) -> None:
    assert PADDED.matched is not None
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        called(pair.theirs, PADDED, itm_labels=PADDED.matched.long()[:, None])


def test_the_callers_labels_are_written_into(pair: Both) -> None:
    assert PADDED.codes is not None
    codes = PADDED.codes.clone()
    called(pair.theirs, PADDED, mim_labels=codes, itm_labels=None)
    assert (codes == -100).any()


def test_the_codebook_is_frozen_and_builds_no_graph() -> None:
    config = transformers.FlavaImageCodebookConfig(num_groups=4, hidden_size=8, vocab_size=11)
    codebook = transformers.FlavaImageCodebook(config)
    assert not any(parameter.requires_grad for parameter in codebook.parameters())
    image = torch.rand(2, 3, 32, 32)
    assert not codebook(image).requires_grad
    assert codebook.get_codebook_indices(image).shape == (2, 4, 4)


def test_projections_are_of_all_positions(pair: Both) -> None:
    batch, flava = BATCHES["pair"], pair.theirs.flava
    image, text = flava.get_image_features(batch.image), flava.get_text_features(batch.text)
    if not OLD:
        image, text = image.pooler_output, text.pooler_output
    assert image.shape == (4, 17, 32) and text.shape == (4, 12, 32)
    with torch.no_grad():
        found = pair.own.backbone(batch, frozenset({"image_projected", "text_projected"}))
    torch.testing.assert_close(found.image_projected, image[:, 0], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(found.text_projected, text[:, 0], rtol=0, atol=TOLERANCE)


def test_an_image_is_encoded_twice_and_the_poolers_run_for_nothing(pair: Both) -> None:
    runs: list[str] = []
    image = pair.theirs.flava.image_model
    for name, part in (("encoder", image.encoder), ("pooler", image.pooler)):
        part.register_forward_hook(lambda *_, name=name: runs.append(name))
    losses = run_hugging_face(pair.theirs, BATCHES["image"])[1]
    losses["mim"].backward()
    assert sorted(runs) == ["encoder", "encoder", "pooler", "pooler"]
    assert image.pooler.dense.weight.grad is None
    assert not gradients(pair.theirs)["flava.image_projection.weight"].any()


def test_hidden_states_are_always_kept_and_attentions_on_request(pair: Both) -> None:
    output = called(pair.theirs, PADDED)
    assert len(output.image_output.hidden_states) == len(output.text_output.hidden_states) == 3
    assert output.image_output.attentions is None
    asked = called(pair.theirs, PADDED, output_attentions=True)
    assert len(asked.image_output.attentions) == 2
    with pytest.raises(ValueError, match="requires hidden states"):
        called(pair.theirs, PADDED, output_hidden_states=False)


def test_position_ids_are_lost_in_the_masked_pass(pair: Both) -> None:
    plain = called(pair.theirs, PADDED)
    turned = called(pair.theirs, PADDED, position_ids=torch.arange(12).flip(0).expand(4, -1))
    assert not torch.allclose(plain.text_embeddings, turned.text_embeddings)
    assert torch.equal(plain.text_masked_embeddings, turned.text_masked_embeddings)


def test_larger_images_are_for_the_image_encoder_alone(pair: Both) -> None:
    larger = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    encoder = pair.theirs.flava.image_model
    expected = encoder(larger, interpolate_pos_encoding=True).last_hidden_state
    assert expected.shape == (2, 37, 32)
    told = "unexpected keyword argument" if OLD else "doesn't match model"
    with pytest.raises((ValueError, TypeError), match=told):
        pair.theirs.flava(pixel_values=larger, interpolate_pos_encoding=True)


def test_norms_under_autocast_are_not_held_in_fp32(pair: Both) -> None:
    kinds: set[torch.dtype] = set()
    for part in pair.theirs.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        called(pair.theirs, PADDED)
    assert torch.bfloat16 in kinds


def test_pixels_and_masks_of_the_processor() -> None:
    processor = transformers.FlavaImageProcessor()
    assert (processor.total_mask_patches, processor.mask_group_min_patches) == (75, 16)
    assert processor.input_size_patches == 14
    assert processor.codebook_do_map_pixels
    mapped = processor.map_pixels(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(mapped, torch.tensor([0.1, 0.5, 0.9]))
