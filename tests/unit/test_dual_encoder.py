"""A model without a multimodal encoder: what it has, and what is refused before it runs."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_flava import LENGTH, SIZE, WORDS, model_section, objective_sections
from torch import Tensor, nn

from flava_plugin.cli.main import main
from flava_plugin.model.backbone import LackingError, fields_of
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.model.stand_in import stand_in
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.types import Batch, Features

NULL = r"model\.fused_encoder is null"


def dual(*objectives: str) -> Learner:
    return build_learner(
        model_section(fused_encoder=None, codebook=None),
        objective_sections(*objectives),
        words=WORDS,
        image_size=SIZE,
        seed=0,
    )


def pairs() -> Batch:
    dice = torch.Generator().manual_seed(0)
    ids = torch.randint(4, WORDS, (3, LENGTH), generator=dice)
    return Batch("pair", image=torch.randn(3, 3, SIZE, SIZE, generator=dice), text=ids)


def test_it_has_neither_the_encoder_nor_the_maps_into_it() -> None:
    names = {name.split(".")[0] for name, _ in dual("contrastive").backbone.named_parameters()}
    assert names == {"image_encoder", "text_encoder", "image_projection", "text_projection"}
    assert "fused" in fields_of(pairs()) and "fused" not in fields_of(pairs(), fuses=False)


def test_its_other_parts_are_those_of_the_whole_model() -> None:
    """So that a comparison starts from the same weights."""
    whole = build_learner(
        model_section(codebook=None),
        objective_sections("contrastive"),
        words=WORDS,
        image_size=SIZE,
        seed=0,
    )
    own, other = (learner.state_dict() for learner in (dual("contrastive"), whole))
    encoders = [name for name in own if "_encoder." in name]
    assert encoders and all(torch.equal(own[name], other[name]) for name in encoders)


def test_what_reads_fused_states_is_refused() -> None:
    with pytest.raises(ValueError, match=rf"objectives\.itm\.head: .*{NULL}"):
        dual("contrastive", "itm")
    backbone = dual("contrastive").backbone
    with pytest.raises(LackingError, match=NULL):
        backbone(pairs(), frozenset({"fused.cls"}))
    with pytest.raises(LackingError, match=NULL):
        stand_in(backbone)


class Frank(nn.Module):
    """A head that does not say what it reads."""

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        assert features.fused is None and features.image is not None
        assert features.image_projected is not None and features.text_projected is not None
        return features.image_projected, features.text_projected


def test_a_head_without_needs_is_given_what_there_is() -> None:
    learner = dual("contrastive")
    learner.heads["contrastive"] = Frank()
    assert set(learner(pairs())) >= {"contrastive.image", "contrastive.text"}


def errors_of(*changes: str) -> str:
    with pytest.raises(RecipeError) as refused:
        load_recipe("pretrain/clip_shapes", list(changes), check_files=False)
    return str(refused.value)


def test_a_recipe_says_which_objective_needs_what_is_not_there() -> None:
    itm = "objectives.itm={modality: pair, head: {type: pair_match}, loss: {type: matching_ce}}"
    assert (
        "objectives.itm: head 'pair_match' reads fused, and model.fused_encoder is null; name an "
        "encoder there, such as flava_fused, or remove the objective with objectives.itm=null"
    ) in errors_of(itm)
    words = "{type: word_tokens, reads: fused}, loss: {type: masked_ce, target: words}}"
    assert "head 'word_tokens' reads fused" in errors_of(
        f"objectives.w={{modality: pair, head: {words}"
    )


def test_a_recipe_says_that_an_encoder_can_hide_nothing() -> None:
    mim = (
        "objectives.mim={modality: image, head: {type: patch_tokens, reads: image}, "
        "loss: {type: masked_ce, target: patches}}",
        "model.codebook={type: kmeans_patches}",
        "data.sources.images={modality: image, share: 1, dataset: {type: shapes_images}}",
    )
    told = errors_of(*mim)
    assert "objectives.mim: head 'patch_tokens' predicts hidden patches, and " in told
    assert "model.image_encoder 'clip_image' can hide none; use flava_image" in told


def test_hidden_patches_are_not_counted_where_none_can_be_hidden() -> None:
    assert load_recipe("pretrain/clip_shapes").data.masking.patch_count > 36
    flava = "model.image_encoder.type=flava_image"
    assert "data.masking.patch_count: 75 of 36 patches" in errors_of(flava)


def test_a_plan_counts_clip_and_says_what_it_does_not_know_of_align(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "pretrain/clip_base", "--gpus", "8", "--device", "h100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["parameters"]
    # of the published ViT-B/16's 149,620,737: images 86,192,640 with their projection; texts
    # 63,165,953 with 49,408 words and the logit scale, without their projection
    assert found["image encoder"] == 86_192_640 - 768 * 512
    assert found["text encoder"] == 63_165_953 - 1 - (49_408 - 30_522) * 512
    assert "multimodal encoder" not in found
    assert main(["plan", "pretrain/align_base", "--gpus", "8", "--device", "h100"]) == 2
    assert "EfficientNetImage, which is not made of one EncoderStack" in capsys.readouterr().err
