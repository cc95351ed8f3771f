from __future__ import annotations

import pytest
import torch
from tiny_flava import tiny_learner

from flava_plugin.model.weights import from_torchmultimodal, to_torchmultimodal


def test_there_and_back() -> None:
    state = tiny_learner().state_dict()
    theirs = to_torchmultimodal(state)
    assert "loss.mmm_loss.mim.cls.decoder.bias" in theirs
    assert "loss.contrastive_loss.logit_scale" in theirs
    back = from_torchmultimodal({**theirs, "image_codebook.encoder.w": torch.ones(1)})
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_unknown_names_are_listed() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="2 names of torchmultimodal .*\n  fancy.w\n  loss.new.w"):
        from_torchmultimodal(
            {"fancy.w": one, "loss.new.w": one, "model.image_projection.bias": one}
        )
    with pytest.raises(ValueError, match="1 names of flava_plugin .*\n  heads.vqa.w"):
        to_torchmultimodal({"heads.vqa.w": one})


def test_a_bias_with_two_values_is_refused() -> None:
    state = to_torchmultimodal(tiny_learner().state_dict())
    state["loss.mlm_loss.cls.decoder.bias"] = state["loss.mlm_loss.cls.bias"] + 1
    with pytest.raises(ValueError, match="are one parameter, but their values differ"):
        from_torchmultimodal(state)
