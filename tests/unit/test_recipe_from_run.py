"""A fine-tuning recipe reads its model, and what that was fed with, from the run it starts from."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flava_plugin.recipe import Recipe, RecipeError, load_recipe

TUNE = "finetune/shapes_colors"


def saved(folder: Path, *changes: str, recipe: str = "pretrain/shapes") -> Path:
    """A run folder with the recipe that a training would have left."""
    folder.mkdir(parents=True)
    text = load_recipe(recipe, changes, check_files=False).to_yaml()
    (folder / "recipe.yaml").write_text(text, "utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    widths = [f"model.{name}.width=64" for name in ("image_encoder", "text_encoder")]
    return saved(
        tmp_path / "first",
        *widths,
        "model.fused_encoder.width=64",
        "data.tokenizer.lowercase=false",
    )


def tune(run: Path, *changes: str, recipe: str = TUNE) -> Recipe:
    return load_recipe(recipe, [f"init.run={run}", f"run_dir={run.parent / 'second'}", *changes])


def test_model_and_what_it_was_fed_with_are_the_runs(run: Path) -> None:
    first, second = load_recipe(str(run)), tune(run)
    assert second.model == first.model.model_copy(update={"codebook": None})
    assert second.data.tokenizer == first.data.tokenizer
    assert second.data.tokenizer.options["lowercase"] is False
    assert second.data.image.mean == (0.25, 0.25, 0.25)
    assert second.data.image.size == 48
    assert second.data.image.crop is None  # its own
    assert second.data.text == first.data.text
    assert second.data.masking.patch_count == 12
    assert second.optim.lr == pytest.approx(1e-3)  # its own


def test_a_recipe_of_the_paper_fits_a_run_of_other_sizes(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(b"")
    path = f"data.sources.train.dataset.path={tmp_path / 'train'}"
    found = tune(run, path, recipe="finetune/classify")
    assert found.model.image_encoder.options["width"] == 64
    assert found.objectives["what"].head.options["num_classes"] == 2


def test_single_values_are_changed_over_the_runs(run: Path) -> None:
    found = tune(run, "model.image_encoder.image_size=64", "model.fused_encoder.dropout=0.1")
    options = found.model.image_encoder.options
    assert (options["image_size"], options["width"], found.data.image.size) == (64, 64, 64)
    assert found.model.fused_encoder is not None
    assert found.model.fused_encoder.options["dropout"] == pytest.approx(0.1)
    with pytest.raises(RecipeError, match=r"data.image.size: 60 is not a multiple of the patch"):
        tune(run, "model.image_encoder.image_size=60")


def test_a_component_of_another_type_is_taken_whole(run: Path) -> None:
    clip = "model.text_encoder={type: clip_text, width: 64, heads: 4, layers: 1, max_positions: 48}"
    assert tune(run, clip).model.text_encoder.options["mlp"] is None


def test_another_vocabulary_or_normalisation_is_told(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tune(run)
        assert not caplog.records
        tune(run, "data.tokenizer={type: wordpiece, lowercase: true}", "data.image.mean=[0, 0, 0]")
    assert [line.partition(" in the run")[0] for line in caplog.messages] == [
        "data.tokenizer.lowercase: True here, False",
        "data.image.mean: [0, 0, 0] here, [0.25, 0.25, 0.25]",
    ]


def test_plugins_of_the_run_are_imported_too(tmp_path: Path) -> None:
    run = saved(tmp_path / "first", "plugins=[json]")
    assert tune(run, "plugins=[csv, json]").plugins == ["json", "csv"]


def test_the_saved_recipe_is_whole_and_a_started_run_needs_the_first_no_more(run: Path) -> None:
    found = tune(run)
    second = Path(found.run_dir)
    second.mkdir()
    (second / "recipe.yaml").write_text(found.to_yaml(), "utf-8")
    assert load_recipe(str(second)) == found
    (run / "recipe.yaml").unlink()
    run.rmdir()
    with pytest.raises(RecipeError, match=r"init.run: '.*first' does not exist"):
        load_recipe(str(second))  # it has not begun, and needs the weights
    (second / "checkpoints" / "00000010").mkdir(parents=True)
    assert load_recipe(str(second)) == found


def test_a_run_to_come_is_given_as_its_recipe(run: Path, tmp_path: Path) -> None:
    first = load_recipe(str(run))
    changes = [f"init.run={tmp_path / 'none'}", f"run_dir={tmp_path / 'second'}"]
    found = load_recipe(TUNE, changes, origin=first.model_dump(mode="json"))
    assert found.model == tune(run).model


def test_a_built_in_run_is_stood_in_for_where_no_files_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_recipe("finetune/vqav2", check_files=False)
    assert found.model.image_encoder.options["width"] == 768
    assert found.data.image.size == 480
    assert "as of pretrain/flava_base, which trains there" in caplog.text
    with pytest.raises(RecipeError, match=r"init.run: 'runs/demo' does not exist; the model"):
        load_recipe(TUNE)


def test_what_is_no_run_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none' does not exist; .* init.run=RUN, or give model"):
        tune(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"empty' holds no recipe.yaml, .*give the run_dir of"):
        tune(tmp_path / "empty")
    (tmp_path / "empty" / "recipe.yaml").write_text("a: [", "utf-8")
    with pytest.raises(RecipeError, match=r"empty/recipe.yaml"):
        tune(tmp_path / "empty")


def test_a_file_of_weights_does_not_say_the_model(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    with pytest.raises(RecipeError, match=r"model: this key is needed; init.run=RUN reads it from"):
        load_recipe(TUNE, [f"init={{weights: {weights}}}", "data.tokenizer={type: wordpiece}"])


def test_a_run_of_a_dual_encoder_lacks_what_a_head_reads(run: Path) -> None:
    with pytest.raises(RecipeError, match=r"objectives.answers: .* model.fused_encoder is null"):
        tune(run, "model.fused_encoder=null")
