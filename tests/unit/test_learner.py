from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tiny_flava import (
    SIZE,
    WORDS,
    brightness_codes,
    image_batch,
    mean_losses,
    model_section,
    objective_sections,
    pair_batch,
    registered,
    text_batch,
    tiny_learner,
)
from torch import Tensor, nn

from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.sections import ObjectiveSection
from flava_plugin.types import Batch, Features, Widths

BATCHES = {"image": image_batch(), "text": text_batch(padded=True), "pair": pair_batch(padded=True)}
FED = {
    "image": {"mim"},
    "text": {"mlm"},
    "pair": {
        "mmm_image",
        "mmm_text",
        "itm",
        "contrastive.image",
        "contrastive.text",
        "contrastive.log_scale",
    },
}


@pytest.mark.parametrize("modality", FED)
def test_a_batch_feeds_its_objectives(modality: str) -> None:
    learner, batch = tiny_learner(), BATCHES[modality]
    found = learner(batch)
    assert type(found) is dict
    assert found.keys() == FED[modality]
    assert all(value.dtype == torch.float32 for value in found.values())
    assert {name.split(".")[0] for name in found} == learner.counts(batch).keys()


def test_embeddings_alone_are_those_of_the_whole_forward() -> None:
    learner, batch = tiny_learner(), BATCHES["pair"]
    alone, whole = learner(batch, embeddings_only=True), learner(batch)
    assert alone.keys() == {"contrastive.image", "contrastive.text", "contrastive.log_scale"}
    for name, value in alone.items():
        torch.testing.assert_close(value, whole[name])
    torch.testing.assert_close(alone["contrastive.image"].norm(dim=1), torch.ones(4))
    assert learner(BATCHES["image"], embeddings_only=True) == {}


def test_losses_are_sums_so_that_micro_batches_add_up() -> None:
    learner, batch = tiny_learner(), pair_batch(rows=6, negatives=1, padded=True)
    fields = ("image", "codebook_image", "patch_mask", "text", "text_masked", "text_padding")
    fields += ("word_labels", "matched", "positives")
    parts = [
        replace(batch, **{name: getattr(batch, name)[rows] for name in fields})
        for rows in (slice(0, 2), slice(2, 6))
    ]
    whole, counted = learner(batch), learner.counts(batch)
    for name in ("mmm_image", "mmm_text", "itm"):
        torch.testing.assert_close(sum(learner(part)[name] for part in parts), whole[name])
        assert sum(learner.counts(part)[name] for part in parts) == counted[name]


@pytest.mark.parametrize(
    "batch",
    [
        image_batch(masked=0.0),
        text_batch(masked=0.0),
        pair_batch(masked=0.0),
        pair_batch(negatives=4, positives="none"),
        pair_batch(rows=1),
        pair_batch(rows=1, negatives=1),
        image_batch(rows=1),
        text_batch(rows=1),
    ],
)
def test_degenerate_batches_give_finite_gradients(batch: Batch) -> None:
    learner = tiny_learner()
    losses, counts = learner(batch), learner.counts(batch)
    for name, count in counts.items():
        if name in losses:
            assert losses[name].requires_grad
            assert int(count) or float(losses[name]) == 0
    sum(value.sum() for value in losses.values()).backward()
    for parameter in learner.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("negatives", [0, 2])
def test_more_padding_changes_no_loss(negatives: int) -> None:
    learner, batch = tiny_learner(), pair_batch(padded=True, negatives=negatives)
    assert batch.text_padding is not None
    more = torch.zeros(len(batch), 5, dtype=torch.long)
    longer = replace(
        batch,
        text=torch.cat([batch.text, more], 1),
        text_masked=torch.cat([batch.text_masked, more], 1),
        text_padding=torch.cat([batch.text_padding, more.bool()], 1),
        word_labels=torch.cat([batch.word_labels, more - 1], 1),
    )
    short, long = mean_losses(learner, batch), mean_losses(learner, longer)
    for name, value in short.items():
        torch.testing.assert_close(value, long[name], rtol=0, atol=1e-5)


def test_only_the_modality_is_trained() -> None:
    """What a step does not touch has no gradient, and the optimiser skips it."""
    learner = tiny_learner()
    sum(learner(BATCHES["text"]).values()).backward()
    touched = {
        ".".join(name.split(".")[:2])
        for name, p in learner.named_parameters()
        if p.grad is not None
    }
    assert touched == {"backbone.text_encoder", "heads.mlm"}


def test_bf16_stays_near_fp32() -> None:
    learner, batch = tiny_learner(), BATCHES["pair"]
    exact = mean_losses(learner, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = mean_losses(learner, batch)
    for name, value in exact.items():
        assert rough[name].dtype == torch.float32
        torch.testing.assert_close(rough[name], value, rtol=0.03, atol=0.03)


def test_codes_come_from_the_batch_or_the_codebook() -> None:
    learner, batch = tiny_learner(), BATCHES["image"]
    assert batch.codebook_image is not None
    codes = brightness_codes()(batch.codebook_image)
    given = replace(batch, codes=codes, codebook_image=None)
    assert torch.equal(learner(batch)["mim"], learner(given)["mim"])
    assert batch.codes is None
    with pytest.raises(ValueError, match="has neither codes nor codebook_image"):
        learner(replace(batch, codebook_image=None))


def test_the_codebook_is_frozen_and_moves_along() -> None:
    class Weighed(nn.Module):
        num_codes = 11

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, image: Tensor) -> Tensor:
            return torch.zeros(len(image), 16, dtype=torch.long)

    def build() -> nn.Module:
        return Weighed()

    with registered("codebooks", "weighed", build):
        learner = tiny_learner(codebook={"type": "weighed"})
    codebook = learner.codebook
    assert isinstance(codebook, Weighed)
    assert not any(parameter.requires_grad for parameter in codebook.parameters())
    assert not any("layer" in name and "codebook" in name for name in learner.state_dict())
    learner.train()
    assert not codebook.training
    learner.double()
    assert codebook.layer.weight.dtype == torch.float64


def test_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first = tiny_learner().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        second = tiny_learner().state_dict()
    other = tiny_learner(seed=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["heads.itm.pooler.dense.weight"], other["heads.itm.pooler.dense.weight"]
    )


def test_another_objective_leaves_the_backbone_as_it_was() -> None:
    few, many = tiny_learner(objective_sections("mlm")), tiny_learner()
    for name, value in few.state_dict().items():
        assert torch.equal(value, many.state_dict()[name]), name


def test_first_weights_have_the_recipe_s_spread() -> None:
    wide = {"width": 64, "heads": 4}
    learner = tiny_learner(
        text_encoder={"type": "flava_text", "layers": 1, **wide},
        init_std=0.05,
        position_std=0.3,
    )
    state = learner.state_dict()
    text, image = "backbone.text_encoder.", "backbone.image_encoder."
    words = state[text + "embeddings.word_embeddings.weight"]
    assert not words[0].any()
    assert float(words[1:].std()) == pytest.approx(0.05, rel=0.1)
    layer = text + "encoder.layer.0."
    assert float(state[layer + "feedforward.model.0.weight"].std()) == pytest.approx(0.05, rel=0.1)
    assert not state[layer + "feedforward.model.0.bias"].any()
    assert (state[layer + "attention_layernorm.weight"] == 1).all()
    for name in ("position_embeddings", "cls_token", "mask_token"):
        assert float(state[image + "embeddings." + name].std()) == pytest.approx(0.3, rel=0.4)
    assert float(state["heads.mlm.cls.decoder.weight"].std()) == pytest.approx(0.05, rel=0.1)
    zero = tiny_learner(position_std=0.0).state_dict()
    assert not zero[image + "embeddings.position_embeddings"].any()


@dataclass
class Refused:
    """A recipe that does not fit together, and what the refusal says."""

    message: str
    model: dict[str, Any]
    image_size: int = SIZE
    objectives: tuple[str, ...] = ("mim",)


@pytest.mark.parametrize(
    "case",
    [
        Refused("image_size is 32, but data.image.size is 64; make them equal", {}, image_size=64),
        Refused("objectives.mim.head reads codes; set model.codebook", {"codebook": None}),
        Refused(
            "model.image_encoder: encoder 'flava_text' cannot be built here",
            {"image_encoder": {"type": "flava_text"}},
        ),
        Refused(
            "width 32 is not a multiple of 5",
            {"fused_encoder": {"type": "flava_fused", "width": 32, "heads": 5}},
        ),
    ],
    ids=lambda case: case.message[:30],
)
def test_parts_that_do_not_fit(case: Refused) -> None:
    objectives = objective_sections(*case.objectives)
    with (
        registered("codebooks", "brightness_codes", brightness_codes),
        pytest.raises(ValueError, match=case.message),
    ):
        build_learner(
            model_section(**case.model),
            objectives,
            words=WORDS,
            image_size=case.image_size,
            seed=0,
        )


class ReadsAll(nn.Module):
    """A foreign head that does not say what it reads and keeps its own first weights."""

    def __init__(self, widths: Widths, /) -> None:
        super().__init__()
        self.layer = nn.Linear(widths.text, 3)
        nn.init.constant_(self.layer.weight, 0.5)

    def forward(self, features: Features, batch: Batch) -> Tensor:
        assert features.text is not None and features.text_masked is not None
        assert features.text_projected is not None
        logits: Tensor = self.layer(features.text[:, 0])
        return logits


def wrong_rows() -> Any:
    return lambda prediction, batch: prediction.sum()


def foreign_learner() -> Learner:
    objective = ObjectiveSection.model_validate(
        {"modality": "text", "head": {"type": "reads_all"}, "loss": {"type": "wrong_rows"}}
    )
    with registered("heads", "reads_all", ReadsAll), registered("losses", "wrong_rows", wrong_rows):
        return tiny_learner({"mine": objective})


def test_a_head_without_needs_gets_every_field_and_keeps_its_weights() -> None:
    learner = foreign_learner()
    assert (learner.heads["mine"].layer.weight == 0.5).all()
    _, found = learner.predict(BATCHES["text"], ["mine"])
    assert found["mine"].shape == (4, 3)


def test_a_loss_of_the_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match=r"objectives.mine.loss returned \(\) instead of \(4,\)"):
        foreign_learner()(BATCHES["text"])
