from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_flava import model_section, objective_sections, tiny_learner
from torch import Tensor, nn

from flava_plugin.model.learner import Learner
from flava_plugin.model.positions import resize_positions
from flava_plugin.model.weights import to_torchmultimodal
from flava_plugin.model.weights_file import Settings
from flava_plugin.sections_data import DataSection
from flava_plugin.sections_init import InitSection
from flava_plugin.train.initialise import load as initialise

SETTINGS = Settings((4, 4, 4), 1e-5, "masked")
POSITIONS = "backbone.image_encoder.embeddings.position_embeddings"


def file_of(folder: Path, state: dict[str, Tensor], settings: Settings = SETTINGS) -> Path:
    path = folder / "weights.safetensors"
    save_file(state, path, settings.metadata())
    return path


def load(learner: Learner, weights: Path) -> None:
    source = {"modality": "text", "dataset": {"type": "shapes_sentences"}}
    plain = {"global_batch": 8, "tokenizer": {"type": "wordpiece"}, "sources": {"a": source}}
    data = DataSection.model_validate(plain)
    initialise(learner, InitSection(weights=weights), model_section(), data)


def test_all_of_a_file_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, learner = tiny_learner(seed=1), tiny_learner(seed=2)
    with caplog.at_level(logging.INFO):
        load(learner, file_of(tmp_path, source.state_dict()))
    for name, value in source.state_dict().items():
        assert torch.equal(learner.state_dict()[name], value), name
    assert "not used" not in caplog.text and "start fresh" not in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_heads_are_taken_whole_or_not_and_the_rest_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tiny_learner(objective_sections("mlm", "mim", "contrastive"), seed=1)
    state = source.state_dict()
    state["heads.mim.cls.bias"] = torch.ones(7)  # another codebook
    learner = tiny_learner(objective_sections("mlm", "mim", "itm"), seed=2)
    fresh = {name: value.clone() for name, value in learner.state_dict().items()}
    with caplog.at_level(logging.INFO):
        load(learner, file_of(tmp_path, state))
    found = learner.state_dict()
    assert torch.equal(found["heads.mlm.cls.bias"], state["heads.mlm.cls.bias"])
    assert torch.equal(found["heads.mim.cls.dense.weight"], fresh["heads.mim.cls.dense.weight"])
    unused, begun = (r.getMessage() for r in caplog.records[:2])
    assert "not used" in unused and "losses.contrastive.logit_scale" in unused
    assert "heads.mim.cls.bias" in unused and "heads.mlm" not in unused
    assert "start fresh" in begun and "heads.itm.pooler.dense.bias" in begun
    assert "heads.mim.cls.bias" in begun and "heads.mlm" not in begun


def test_a_backbone_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    learner, state = tiny_learner(), tiny_learner().state_dict()
    state["backbone.image_projection.bias"] = torch.ones(3)
    state["backbone.novel"] = torch.ones(1)
    del state["backbone.mm_encoder.cls_token"]
    before = learner.backbone.text_projection.weight.clone()
    with pytest.raises(ValueError, match=r"init\.weights: .*does not fit") as refused:
        load(learner, file_of(tmp_path, state))
    for part in (
        "image_projection.bias: (32,) here, (3,) there",
        "novel: is there, but not in this model",
        "mm_encoder.cls_token: is missing there",
    ):
        assert part in str(refused.value)
    assert torch.equal(learner.backbone.text_projection.weight, before)


def test_attention_heads_are_compared_and_settings_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tiny_learner().state_dict()
    other = file_of(tmp_path, state, Settings((4, 8, 4), 1e-5, "masked"))
    with pytest.raises(ValueError, match="text_encoder: 4 here, 8 there"):
        load(tiny_learner(), other)
    path = file_of(tmp_path, state, Settings((4, 4, 4), 1e-12, "released"))
    load(tiny_learner(), path)
    assert "made with padding: released, and model.padding is masked" in caplog.text
    assert "made with norm_eps 1e-12, and objectives.mlm.head.norm_eps is 1e-05" in caplog.text


def test_other_files_are_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.safetensors"
    upstream = to_torchmultimodal(tiny_learner().state_dict())
    save_file({name: value.clone() for name, value in upstream.items()}, theirs)
    with pytest.raises(ValueError, match="names of torchmultimodal; .*flava weights convert"):
        load(tiny_learner(), theirs)
    theirs.write_bytes(b"\x80")
    with pytest.raises(ValueError, match="no readable safetensors file"):
        load(tiny_learner(), theirs)
    metadata = {**SETTINGS.metadata(), "heads": "4,-4,4"}
    save_file(tiny_learner().state_dict(), theirs, metadata)
    with pytest.raises(ValueError, match="metadata .* is damaged"):
        load(tiny_learner(), theirs)


def test_positions_are_resized_where_only_they_differ(tmp_path: Path) -> None:
    state = tiny_learner(seed=1).state_dict()
    patches = torch.randn(1, 1 + 9, 32, generator=torch.Generator().manual_seed(0))
    state[POSITIONS] = patches
    learner = tiny_learner(seed=2)
    load(learner, file_of(tmp_path, state))
    assert torch.equal(learner.state_dict()[POSITIONS], resize_positions(patches, (4, 4)))
    state[POSITIONS] = torch.randn(1, 10, 16)
    with pytest.raises(ValueError, match=r"position_embeddings: \(1, 17, 32\) here, \(1, 10, 16\)"):
        load(learner, file_of(tmp_path, state))


def test_positions_that_cannot_be_resized_name_the_file(tmp_path: Path) -> None:
    state = tiny_learner().state_dict()
    state[POSITIONS] = torch.ones(1, 13, 32)
    path = file_of(tmp_path, state)
    with pytest.raises(
        ValueError, match=r"init\.weights: .*weights\.safetensors: .*12 patches are"
    ):
        load(tiny_learner(), path)


def test_an_encoder_of_another_form_says_no_heads(tmp_path: Path) -> None:
    learner = tiny_learner()
    path = file_of(tmp_path, learner.state_dict(), Settings((4, 8, 4), 1e-5, "masked"))
    learner.backbone.text_encoder.encoder = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="its backbone does not fit"):  # by names, not by heads
        load(learner, path)


def test_resizing_keeps_cls_and_what_is_smooth() -> None:
    rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    grid = torch.stack([rows, columns, torch.ones_like(rows)], dim=-1).reshape(1, 196, 3)
    table = torch.cat([torch.tensor([[[5.0, 6.0, 7.0]]]), grid], dim=1)
    assert resize_positions(table, (14, 14)) is table
    large = resize_positions(table, (30, 30))  # 480 pixels in patches of 16
    assert large.shape == (1, 901, 3)
    assert torch.equal(large[:, :1], table[:, :1])
    assert resize_positions(table, (20, 30)).shape == (1, 601, 3)
    picture = large[0, 1:].reshape(30, 30, 3)
    assert torch.allclose(picture[..., 2], torch.ones(30, 30), atol=1e-5)
    # Away from the border a slope stays one, at the centres of the new patches; not exactly, for
    # torch's bicubic weights (a = -0.75) waver by up to 0.07 of a step
    expected = (torch.arange(30.0) + 0.5) * 14 / 30 - 0.5
    inner = slice(5, 25)
    assert torch.allclose(picture[inner, 15, 0], expected[inner], atol=0.07)
    assert torch.allclose(picture[15, inner, 1], expected[inner], atol=0.07)
    assert resize_positions(table.half(), (30, 30)).dtype == torch.float16


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (torch.ones(1, 13, 4), "12 patches are no square grid"),
        (torch.ones(17, 4), r"are \(1, 1 \+ P, D\), and not \(17, 4\)"),
    ],
)
def test_no_square_no_resizing(table: Tensor, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        resize_positions(table, (4, 4))
