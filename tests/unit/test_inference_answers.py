"""Class names, answers and streams: probabilities that add up, names that say what is wrong."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from inference_run import write_run
from PIL import Image
from safetensors.torch import save_file

from flava_plugin.evaluate.inference import Flava, load
from flava_plugin.evaluate.zero_shot import prompt_ensemble
from flava_plugin.registry import datasets
from flava_plugin.types import Sample

ANSWERS = (
    "objectives.answers={modality: pair, head: {type: classifier, num_classes: 3}, "
    "loss: {type: class_ce, target: answer}}"
)
WORDS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def flava(tmp_path_factory: pytest.TempPathFactory) -> Flava:
    flava = load(write_run(tmp_path_factory.mktemp("run"), ANSWERS))
    flava.batch_size = 4
    return flava


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    pairs = datasets.build("shapes_pairs", split="dev", size=9)
    found = [pairs.read(index).image for index in range(9)]
    return [image for image in found if image is not None]


def test_classes_are_a_softmax_of_scaled_cosines(flava: Flava, images: list[Image.Image]) -> None:
    templates = ["a {}", "one {} thing"]
    found = flava.classify(images, WORDS, templates)
    cosines = flava.encode_image(images) @ prompt_ensemble(flava, WORDS, templates).T
    assert torch.allclose(found, (flava.scale * cosines).softmax(1))
    assert torch.equal(found, flava.classify(images, WORDS, templates))
    bare = flava.classify(images, WORDS)
    assert torch.allclose(bare, flava.score(images, WORDS).softmax(1), atol=1e-6)


def test_projections_that_a_run_has_not_trained_are_told(
    flava: Flava, images: list[Image.Image], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flava.classify(images[:1], WORDS)
    assert not caplog.records
    answers_only = load(write_run(tmp_path, ANSWERS, "objectives.contrastive=null"))
    answers_only.classify(images[:1], WORDS)
    assert "trains no projections" in caplog.text


@pytest.mark.parametrize(
    ("names", "templates", "told"),
    [
        ([], None, "no class names"),
        (["red", "red"], None, "'red' stands twice"),
        (WORDS, ["a thing"], "'a thing' has no {}"),
        ("red", None, "give a list"),
    ],
)
def test_class_names_that_make_no_sense_are_refused(
    flava: Flava, images: list[Image.Image], names: list[str], templates: list[str], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        flava.classify(images, names, templates)


def test_answers_are_the_heads_likeliest(flava: Flava, images: list[Image.Image]) -> None:
    questions = [f"what color is shape {number}" for number in range(9)]
    found = flava.answer(images, questions, k=2, answers=WORDS)
    samples = [Sample(image=i, text=q) for i, q in zip(images, questions, strict=True)]
    logits = flava.predict("answers", flava.batch(samples, "pair"))
    chances = logits.softmax(1)
    for row, guesses in enumerate(found):
        assert len(guesses) == 2
        assert guesses[0].name == WORDS[int(chances[row].argmax())]
        assert guesses[0].probability == pytest.approx(float(chances[row].max()), abs=1e-4)
        assert guesses[0].probability >= guesses[1].probability
    assert {len(guesses) for guesses in flava.answer(images[:1], ["?"], answers=WORDS)} == {3}


def test_the_vocabulary_is_that_of_the_runs_data_and_bce_lets_several_be_right(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    words = list(datasets.build("shapes_questions").answers)
    head = f"{{type: classifier, num_classes: {len(words)}}}"
    flava = load(
        write_run(
            tmp_path,
            f"objectives={{answers: {{modality: pair, head: {head}, "
            "loss: {type: bce, target: answer}}}",
            "data.sources={asked: {modality: pair, share: 1, dataset: {type: shapes_questions}}}",
        )
    )
    (guesses,) = flava.answer(images[:1], ["what color?"], k=len(words))
    assert sorted(guess.name for guess in guesses) == sorted(words)
    logits = flava.predict(
        "answers", flava.batch([Sample(image=images[0], text="what color?")], "pair")
    )
    by_name = {guess.name: guess.probability for guess in guesses}
    assert [by_name[word] for word in words] == pytest.approx(
        logits.sigmoid()[0].tolist(), rel=1e-4
    )


def test_answers_that_cannot_be_are_refused(flava: Flava, images: list[Image.Image]) -> None:
    one = images[:1]
    with pytest.raises(ValueError, match="there are 2 answers"):
        flava.answer(one, ["what"], answers=["yes", "no"])
    with pytest.raises(ValueError, match="names the answers of 'answers'"):
        flava.answer(one, ["what"])
    with pytest.raises(ValueError, match="no objective 'vqa'"):
        flava.answer(one, ["what"], objective="vqa")
    with pytest.raises(ValueError, match="0 for 1"):
        flava.answer(one, [])


def test_a_stream_reads_no_further_than_a_batch(flava: Flava) -> None:
    taken = itertools.count()

    def texts() -> Iterator[str]:
        for number in taken:
            yield f"a red circle {number}"  # without an end

    stream = flava.stream(texts(), "text")
    rows = [next(stream), next(stream)]
    assert next(taken) == 8
    whole = flava.encode_text([f"a red circle {number}" for number in range(8)])
    assert torch.allclose(torch.cat(rows), whole, atol=1e-6)


def test_a_stream_names_what_it_cannot_read(flava: Flava, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone.png"):
        list(flava.stream([tmp_path / "gone.png"], "image"))
    with pytest.raises(ValueError, match="give a list"):
        list(flava.stream("red", "text"))


def test_a_file_of_weights_with_its_recipe_is_the_same_model(flava: Flava, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(flava.learner.state_dict(), str(path))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(flava.recipe.to_yaml())
    same = load(path, recipe=recipe)
    assert torch.equal(same.encode_text(WORDS), flava.encode_text(WORDS))
    with pytest.raises(ValueError, match="add recipe="):
        load(path)
    with pytest.raises(ValueError, match="does not fit recipe"):
        load(path, recipe=recipe, overrides=["model.projection=4"])
