"""Encoders that start from trainings of their own; all else starts as without."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_vit import PlainVit
from safetensors.torch import save_file
from tiny_flava import CODES, SIZE, WIDTH, model_section, objective_sections, tiny_learner
from torch import Tensor

from flava_plugin.model.learner import Learner
from flava_plugin.model.positions import resize_positions
from flava_plugin.model.weights import to_hugging_face
from flava_plugin.model.weights_file import Settings
from flava_plugin.sections_data import DataSection
from flava_plugin.sections_init import InitSection
from flava_plugin.train import run_folder, saving
from flava_plugin.train.initialise import load as initialise
from flava_plugin.train.initialise_encoders import load_encoders

POSITIONS = "backbone.image_encoder.embeddings.position_embeddings"
SETTINGS = Settings((4, 4, 4), 1e-5, "masked")


def data_section(**tokenizer: object) -> DataSection:
    source = {"modality": "text", "dataset": {"type": "shapes_sentences"}}
    plain = {"global_batch": 8, "sources": {"a": source}}
    return DataSection.model_validate(
        plain | {"tokenizer": {"type": "wordpiece", "vocab": None, "lowercase": True, **tokenizer}}
    )


def run_of(
    folder: Path,
    state: dict[str, Tensor],
    *,
    model: Any = None,
    data: DataSection | None = None,
    ema: dict[str, Tensor] | None = None,
) -> Path:
    """A run folder with one checkpoint."""
    plain = {
        "model": (model or model_section()).model_dump(mode="json"),
        "data": (data or data_section()).model_dump(mode="json"),
    }
    token = run_folder.claim(folder)
    saving.save(folder, 7, state, {}, {"recipe": plain}, token=token, keep=1, ema=ema)
    return folder


def load(learner: Learner, init: dict[str, Any], data: DataSection | None = None) -> None:
    section = InitSection.model_validate(init)
    load_encoders(learner, section, model_section(), data or data_section())


def refusal(learner: Learner, init: dict[str, Any], data: DataSection | None = None) -> str:
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the caller looks at the text
        load(learner, init, data)
    after = learner.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "nothing taken"
    return str(caught.value)


def test_encoders_and_a_head_are_taken_and_all_else_is_what_the_seed_gives(tmp_path: Path) -> None:
    images, texts = tiny_learner(seed=1).state_dict(), tiny_learner(seed=2).state_dict()
    init = {
        "image": {"run": str(run_of(tmp_path / "mim", images))},
        "text": {"run": str(run_of(tmp_path / "mlm", texts)), "head": True},
    }
    learner, fresh = tiny_learner(seed=3), tiny_learner(seed=3).state_dict()
    initialise(learner, InitSection.model_validate(init), model_section(), data_section())
    for name, value in learner.state_dict().items():
        source = fresh
        if name.startswith("backbone.image_encoder."):
            source = images
        if name.startswith(("backbone.text_encoder.", "heads.mlm.")):
            source = texts
        assert torch.equal(value, source[name]), name
    name = "heads.mim.cls.dense.weight"
    assert not torch.equal(images[name], fresh[name]), "a head that was left shows"


def test_a_runs_average_is_taken_where_it_keeps_one(tmp_path: Path) -> None:
    state = tiny_learner(seed=1).state_dict()
    average = {name: value + 1 for name, value in state.items()}
    learner = tiny_learner(seed=3)
    load(learner, {"image": {"run": str(run_of(tmp_path / "mim", state, ema=average))}})
    assert torch.equal(learner.state_dict()[POSITIONS], average[POSITIONS])


def test_a_file_of_ours_gives_one_encoder(tmp_path: Path) -> None:
    state = tiny_learner(seed=1).state_dict()
    path = tmp_path / "ours.safetensors"
    save_file(state, path, SETTINGS.metadata())
    learner, fresh = tiny_learner(seed=3), tiny_learner(seed=3).state_dict()
    load(learner, {"text": {"weights": str(path), "head": True}})
    found = learner.state_dict()
    name = "backbone.text_encoder.embeddings.word_embeddings.weight"
    assert torch.equal(found[name], state[name])
    assert torch.equal(found["heads.mlm.cls.decoder.weight"], state["heads.mlm.cls.decoder.weight"])
    assert torch.equal(found[POSITIONS], fresh[POSITIONS])
    save_file(state, path, Settings((4, 8, 4), 1e-5, "masked").metadata())
    assert "model.text_encoder.heads: 4 here, 8 there" in refusal(
        learner, {"text": {"weights": str(path)}}
    )


def test_everything_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    images, texts = (tiny_learner(seed=seed).state_dict() for seed in (1, 2))
    images["backbone.image_encoder.layernorm.bias"] = torch.ones(3)
    images["heads.mim.cls.bias"] = torch.ones(CODES + 5)
    del images["backbone.image_encoder.embeddings.cls_token"]
    texts["backbone.text_encoder.novel"] = torch.ones(1)
    told = refusal(
        tiny_learner(objective_sections("mim"), seed=3),
        {
            "image": {"run": str(run_of(tmp_path / "mim", images)), "head": True},
            "text": {"run": str(run_of(tmp_path / "mlm", texts)), "head": True},
        },
    )
    for part in (
        f"init.image.run: {tmp_path}/mim: what is to be taken does not fit this recipe",
        f"image_encoder.layernorm.bias: ({WIDTH},) here, (3,) there",
        f"heads.mim.cls.bias: ({CODES},) here, ({CODES + 5},) there",
        "image_encoder.embeddings.cls_token: is missing there",
        f"init.text.run: {tmp_path}/mlm: what is to be taken",
        "text_encoder.novel: is there, but not in this model",
        "objectives.mlm: is not in this recipe, so its head cannot be taken",
    ):
        assert part in told


def test_what_weights_do_not_show_is_read_from_the_runs_recipe(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tiny_learner(seed=1).state_dict()
    encoder = model_section().image_encoder.model_dump() | {"heads": 8}
    other = model_section(image_encoder=encoder, codebook={"type": "kmeans_patches"})
    run = run_of(tmp_path / "mim", state, model=other)
    told = refusal(tiny_learner(), {"image": {"run": str(run), "head": True}})
    assert "model.image_encoder.heads: 4 here, 8 there" in told
    assert "model.codebook.type: brightness_codes here, kmeans_patches there" in told
    data = data_section()
    image = data.image.model_copy(update={"mean": (0.5, 0.5, 0.5)})
    seen = run_of(tmp_path / "seen", state, data=data.model_copy(update={"image": image}))
    load(tiny_learner(), {"image": {"run": str(seen)}})
    assert "data.image.mean" in caplog.text and "[0.5, 0.5, 0.5] there" in caplog.text


def test_texts_of_another_tokenizer_are_refused_and_a_moved_vocabulary_is_none(
    tmp_path: Path,
) -> None:
    state = tiny_learner(seed=1).state_dict()
    words = [tmp_path / name for name in ("one.txt", "same.txt", "other.txt")]
    for path, text in zip(words, ("a\nb\n", "a\nb\n", "b\na\n"), strict=True):
        path.write_text(text)
    one, same, other = (data_section(vocab=str(path)) for path in words)
    run = {"text": {"run": str(run_of(tmp_path / "mlm", state, data=one))}}
    load(tiny_learner(), run, same)
    told = refusal(tiny_learner(), run, other)
    assert f"data.tokenizer.vocab: {words[2]} here, {words[0]} there" in told
    assert "use their tokenizer" in told
    lower = data_section(vocab=str(words[0]), lowercase=False)
    assert "data.tokenizer.lowercase: False here, True there" in refusal(tiny_learner(), run, lower)


def test_positions_are_resized_where_only_they_differ(tmp_path: Path) -> None:
    state = tiny_learner(seed=1).state_dict()
    state[POSITIONS] = torch.randn(1, 1 + 9, WIDTH, generator=torch.Generator().manual_seed(0))
    learner = tiny_learner(seed=2)
    load(learner, {"image": {"run": str(run_of(tmp_path / "mim", state))}})
    expected = resize_positions(state[POSITIONS], (SIZE // 8,) * 2)
    assert torch.equal(learner.state_dict()[POSITIONS], expected)
    state[POSITIONS] = torch.ones(1, 13, WIDTH)
    run = run_of(tmp_path / "odd", state)
    assert "12 patches are no square" in refusal(learner, {"image": {"run": str(run)}})


def test_a_vit_of_elsewhere_gives_the_image_encoder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vit = PlainVit(WIDTH, 4, 2)
    path = tmp_path / "dino.pth"
    torch.save(vit.state_dict(), path)
    encoder = model_section().image_encoder.model_dump() | {"mlp": 4 * WIDTH}
    learner, fresh = (tiny_learner(seed=3, image_encoder=encoder) for _ in range(2))
    before = fresh.state_dict()
    with caplog.at_level(logging.INFO):
        load(learner, {"image": {"weights": str(path)}})
    found = learner.state_dict()
    theirs = vit.state_dict()["blocks.1.mlp.fc1.weight"]
    key = "backbone.image_encoder.encoder.layer.1.feedforward.model.0.weight"
    assert torch.equal(found[key], theirs)
    token = "backbone.image_encoder.embeddings.mask_token"
    assert torch.equal(found[token], before[token])
    assert "start fresh: image_encoder.embeddings.mask_token, image_encoder.pooler" in caplog.text
    assert "does not say its attention heads; usual ones are 64 wide, and here 8" in caplog.text
    told = refusal(learner, {"image": {"weights": str(path), "head": True}})
    assert "heads.mim.cls.bias: is missing there" in told
    shallow = tiny_learner(image_encoder=encoder | {"layers": 1})
    told = refusal(shallow, {"image": {"weights": str(path)}})
    assert "encoder.layer.1.attention.query.weight: is there, but not in this model" in told


def test_bert_and_files_of_others_are_no_text_encoder(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    init = {"text": {"weights": str(path)}}
    save_file({"bert.encoder.layer.0.attention.self.query.weight": torch.ones(2)}, path)
    assert "(post-norm); FLAVA's text encoder norms before them (pre-norm)" in refusal(
        tiny_learner(), init
    )
    state = to_hugging_face(tiny_learner().state_dict())
    save_file({name: value.clone() for name, value in state.items()}, path)
    assert "names of hugging_face; write one of ours" in refusal(tiny_learner(), init)
    save_file({"x": torch.ones(1)}, path)
    assert "not the names of a FLAVA that is known here: x" in refusal(tiny_learner(), init)
    missing = refusal(tiny_learner(), {"image": {"run": str(tmp_path)}})
    assert f"{tmp_path} has no checkpoint 'latest'" in missing


@pytest.mark.parametrize(
    ("init", "told"),
    [
        ({"image": {}}, "give either run or weights, and not both"),
        ({"image": {"run": "a", "weights": "b.pth"}}, "give either run or weights"),
        ({"text": {"weights": "pytorch_model.bin"}}, "pre-norm where BERT is post-norm"),
        ({"image": {"weights": "vit.h5"}}, "is none of .safetensors, .pt, .pth, .bin"),
        ({"image": {"weights": "FOLDER"}}, "is a folder; .* as init.image.run"),
        ({"run": "a", "text": {"run": "b"}}, "or image, text or both of these"),
        ({"text": {"run": "a", "heads": True}}, "heads"),
    ],
)
def test_a_wrong_section_is_refused(tmp_path: Path, init: dict[str, Any], told: str) -> None:
    if init.get("image", {}).get("weights") == "FOLDER":
        init = {"image": {"weights": str(tmp_path)}}
    with pytest.raises(ValueError, match=told):
        InitSection.model_validate(init)


def test_a_section_without_encoders_is_written_as_ever() -> None:
    plain = {"run": "a", "weights": None}
    assert InitSection.model_validate({"run": "a"}).model_dump(mode="json") == plain
    whole = InitSection.model_validate({"text": {"run": "b"}})
    assert InitSection.model_validate(whole.model_dump(mode="json")) == whole
