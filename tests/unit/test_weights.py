from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from tiny_flava import objective_sections, tiny_learner
from torch import Tensor

from flava_plugin.model.weights import (
    check,
    from_hugging_face,
    from_torchmultimodal,
    guess_format,
    to_hugging_face,
    to_torchmultimodal,
)
from flava_plugin.model.weights_shapes import sizes_of

Convert = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

BOTH = pytest.mark.parametrize(
    ("to", "back"),
    [(to_torchmultimodal, from_torchmultimodal), (to_hugging_face, from_hugging_face)],
    ids=["torchmultimodal", "hugging_face"],
)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@BOTH
@pytest.mark.parametrize("kept", [(), ("mlm",), ("itm", "mmm_image")])
def test_there_and_back(to: Convert, back: Convert, kept: tuple[str, ...]) -> None:
    state = tiny_learner(objective_sections(*kept)).state_dict()
    theirs = {**to(state), "image_codebook.encoder.w": torch.ones(1)}
    assert same(back(theirs), state)
    assert guess_format(theirs) == ("hugging_face" if "hugging" in to.__name__ else to.__name__[3:])


@BOTH
def test_the_model_alone(to: Callable[..., dict[str, Tensor]], back: Convert) -> None:
    state = tiny_learner().state_dict()
    theirs = to(state, model_only=True)
    assert same(theirs, to(back(theirs), model_only=True))
    assert not any(name.startswith(("model.", "flava.", "loss.", "mlm_head.")) for name in theirs)
    assert ("logit_scale" in theirs) is (to is to_hugging_face)  # it is in their FlavaModel
    backbone = {name: value for name, value in state.items() if name.startswith("backbone.")}
    assert same({n: v for n, v in back(theirs).items() if n.startswith("backbone.")}, backbone)


def test_names_of_both() -> None:
    theirs, face = (to(tiny_learner().state_dict()) for to in (to_torchmultimodal, to_hugging_face))
    assert "loss.mmm_loss.mim.cls.decoder.bias" in theirs
    assert "loss.contrastive_loss.logit_scale" in theirs
    assert "mmm_image_head.decoder.bias" in face
    assert "flava.logit_scale" in face
    assert "flava.image_model.encoder.layer.1.attention.output.dense.weight" in face


@BOTH
def test_every_fault_is_in_one_error(to: Convert, back: Convert) -> None:
    theirs = to(tiny_learner().state_dict())
    missing, shaped, value = list(theirs)[5], list(theirs)[-1], list(theirs)[9]
    del theirs[missing]
    theirs[shaped] = torch.ones(2, 3)
    theirs |= {"fancy.w": torch.ones(1), value: "a word"}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="^4 names of .* do not fit") as refused:
        back(theirs)
    text = str(refused.value)
    for line in ("fancy.w: is unknown", f"{missing}: is missing", f"{value}: is a str, not a tens"):
        assert f"  {line}" in text
    assert re.search(rf"  {re.escape(shaped)}: is \(2, 3\), and to fit the rest \(", text)


@BOTH
def test_a_layer_beyond_a_gap_is_unknown(to: Convert, back: Convert) -> None:
    theirs = to(tiny_learner().state_dict())
    moved = {name.replace("layer.1.", "layer.999999999."): value for name, value in theirs.items()}
    with pytest.raises(ValueError, match=r"layer\.1\.[\w.]+: is missing") as refused:
        back(moved)
    assert re.search(r"layer\.999999999\.[\w.]+: is unknown", str(refused.value))


def test_gradients_may_be_partial_and_foreign_heads_are_named() -> None:
    some = {"backbone.image_projection.bias": torch.ones(3)}
    assert list(to_torchmultimodal(some, partial=True)) == ["model.image_projection.bias"]
    state = {**tiny_learner().state_dict(), "heads.vqa.w": torch.ones(1)}
    with pytest.raises(ValueError, match="^1 names of flava_plugin .*\n  heads.vqa.w: is unknown"):
        to_hugging_face(state)
    assert "image_projection.bias" in to_hugging_face(state, model_only=True)


@BOTH
def test_a_bias_with_two_values_is_refused(to: Convert, back: Convert) -> None:
    state = to(tiny_learner().state_dict())
    name = next(name for name in state if name.endswith("decoder.bias"))
    only_tied = {n: v for n, v in state.items() if n != name.replace("decoder.bias", "bias")}
    assert same(back(only_tied), back(state))
    state[name] = state[name] + 1
    with pytest.raises(ValueError, match="are one parameter, but their values differ"):
        back(state)


def test_position_ids_of_older_files() -> None:
    state = to_hugging_face(tiny_learner().state_dict())
    name = "flava.text_model.embeddings.position_ids"
    assert same(
        from_hugging_face({**state, name: torch.arange(24)[None]}), from_hugging_face(state)
    )
    with pytest.raises(ValueError, match="other positions than 0, 1, 2"):
        from_hugging_face({**state, name: torch.arange(24)[None] + 2})


def test_sizes_and_whose_names() -> None:
    state = check(tiny_learner(objective_sections("mim", "contrastive")).state_dict())
    sizes = sizes_of(state)
    assert (sizes.image.layers, sizes.fused.layers, sizes.text.mlp) == (2, 1, 128)
    assert (sizes.image_size, sizes.patch_size, sizes.positions, sizes.codes) == (32, 8, 24, 11)
    assert sizes.objectives == {"mim", "contrastive"}
    assert guess_format(state) == "flava_plugin"
    with pytest.raises(ValueError, match="not the names of a FLAVA that is known here: bert.w"):
        guess_format(["bert.w"])
