"""The shipped recipes build the published models: torchmultimodal's names, shapes and sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_flava import registered
from torch import nn
from torchmultimodal.models.flava.model import flava_model
from torchmultimodal.modules.losses.flava import FLAVAPretrainingLoss

from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.model.weights import to_torchmultimodal
from flava_plugin.recipe import Recipe, load_recipe
from flava_plugin.schema import CodebookSpec

WORDS, CODES = 30_522, 8_192
"""Of BERT and DALL-E, which the published models use."""

PRESETS = {
    "paper": "pretrain/flava_base",
    "released": "pretrain/flava_released",
    "large": "pretrain/flava_large",
    "shapes": "pretrain/shapes",
}


class NoCodes(nn.Module):
    """Says how many codes there are, which is all that building a learner asks of a codebook."""

    num_codes = CODES


def build(recipe: Recipe) -> Learner:
    model = recipe.model.model_copy(
        update={"codebook": CodebookSpec.model_validate({"type": "no_codes"})}
    )
    with registered("codebooks", "no_codes", lambda: NoCodes()), torch.device("meta"):
        return build_learner(
            model,
            recipe.objectives,
            words=WORDS,
            image_size=recipe.data.image.size,
            seed=0,
        )


def peer(recipe: Recipe) -> nn.ModuleDict:
    """torchmultimodal's model and losses at the sizes that the recipe states."""
    sizes: dict[str, Any] = {}
    for theirs, spec in (
        ("image", recipe.model.image_encoder),
        ("text", recipe.model.text_encoder),
        ("multimodal", recipe.model.fused_encoder),
    ):
        options = spec.options
        sizes |= {
            f"{theirs}_num_hidden_layers": options["layers"],
            f"{theirs}_hidden_size": options["width"],
            f"{theirs}_num_attention_heads": options["heads"],
            f"{theirs}_intermediate_size": options["mlp"] or 4 * options["width"],
        }
    with torch.device("meta"):
        model = flava_model(
            **sizes,
            image_size=recipe.data.image.size,
            patch_size=recipe.model.image_encoder.options["patch_size"],
            max_position_embeddings=recipe.model.text_encoder.options["max_positions"],
            text_and_image_proj_size=recipe.model.projection,
        )
        losses = FLAVAPretrainingLoss(
            hidden_size=sizes["multimodal_hidden_size"],
            text_vocab_size=WORDS,
            image_vocab_size=CODES,
        )
    return nn.ModuleDict({"model": model, "loss": losses})


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PRESETS.values(), ids=PRESETS.keys())
def test_a_preset_is_torchmultimodals_model_of_that_size(name: str) -> None:
    recipe = load_recipe(name, check_files=False)
    learner, theirs = build(recipe), peer(recipe)
    own = to_torchmultimodal(learner.state_dict())
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in own.items()} == expected
    assert count(learner) == count(theirs)


@pytest.mark.parametrize(
    ("preset", "layers", "width", "heads", "projection", "padding", "parameters"),
    [
        ("paper", (12, 12, 6), 768, 12, 512, "masked", 303_465_335),
        ("released", (12, 12, 6), 768, 12, 768, "released", 303_859_063),
        ("large", (24, 24, 12), 1024, 16, 512, "masked", 879_474_295),
    ],
)
def test_a_preset_has_its_published_sizes(
    preset: str,
    layers: tuple[int, int, int],
    width: int,
    heads: int,
    projection: int,
    padding: str,
    parameters: int,
) -> None:
    """With DALL-E's codebook of 53.8 M, ``released`` has the 357 M of torchmultimodal's model."""
    recipe = load_recipe(PRESETS[preset], check_files=False)
    model = recipe.model
    encoders = (model.image_encoder, model.text_encoder, model.fused_encoder)
    assert tuple(encoder.options["layers"] for encoder in encoders) == layers
    assert {encoder.options["width"] for encoder in encoders} == {width}
    assert {encoder.options["heads"] for encoder in encoders} == {heads}
    assert (model.projection, model.padding) == (projection, padding)
    assert count(build(recipe)) == parameters


def test_the_paper_hyper_parameters_are_the_papers() -> None:
    for preset in ("paper", "large"):
        recipe = load_recipe(PRESETS[preset], check_files=False)
        optim, data = recipe.optim, recipe.data
        assert (optim.lr, optim.betas, optim.weight_decay) == (1e-3, (0.9, 0.999), 0.1)
        assert (optim.warmup_steps, data.global_batch) == (10_000, 8192)
        shares = {source.modality: source.share for source in data.sources.values()}
        assert shares == {"pair": 0.70, "image": 0.15, "text": 0.15}
        assert 0.70 * recipe.steps == pytest.approx(150_000, rel=0.005)
        assert (data.image.size, data.masking.words) == (224, 0.15)
        assert data.masking.patches == "blockwise"
        assert {objective.weight for objective in recipe.objectives.values()} == {1.0}
        assert len(recipe.objectives) == 6
