import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import flava_plugin
from flava_plugin.cli.main import main
from flava_plugin.evaluate.inference import Flava, load
from flava_plugin.model.learner import build_learner
from flava_plugin.recipe import load_recipe
from flava_plugin.registry import datasets, tokenizers
from flava_plugin.train import run_folder, saving
from flava_plugin.types import Key, Sample

SMALL = (
    "model.image_encoder.width=16",
    "model.text_encoder.width=16",
    "model.fused_encoder.width=16",
    "model.projection=8",
    "device=cpu",
    "threads=1",
    "seed=3",
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the embedded recipe whose weights are still the first ones."""
    folder = tmp_path_factory.mktemp("run")
    recipe = load_recipe("pretrain/shapes", [*SMALL, f"run_dir={folder}"])
    words = tokenizers.build(recipe.data.tokenizer.type).vocab_size
    for step in (1, 2):
        learner = build_learner(
            recipe.model, recipe.objectives, words=words, image_size=48, seed=step
        )
        token = run_folder.claim(folder)
        saving.save(folder, step, learner.state_dict(), {}, {}, token=token, keep=3)
    run_folder.describe(folder, recipe.to_yaml())
    summary = {"steps": 2, "seconds": 100.0, "samples_per_s": 0.96}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def flava(run_dir: Path) -> Flava:
    return load(run_dir)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    pairs = datasets.build("shapes_pairs", split="dev", size=9)
    return [pairs.read(index) for index in range(9)]


def images_of(samples: list[Sample]) -> list[Image.Image]:
    return [sample.image for sample in samples if sample.image is not None]


def texts_of(samples: list[Sample]) -> list[str]:
    return [sample.text for sample in samples if sample.text is not None]


def test_load_is_what_the_package_offers(run_dir: Path) -> None:
    assert isinstance(flava_plugin.load(run_dir), Flava)


def test_embeddings_are_the_projected_class_tokens_normalised(
    flava: Flava, samples: list[Sample]
) -> None:
    images, texts = images_of(samples), texts_of(samples)
    batch = flava.batch(samples, "pair")
    assert batch.image is not None
    assert batch.text is not None
    with torch.no_grad():
        image = flava.learner.backbone.encode_image(batch.image)[1]
        text = flava.learner.backbone.encode_text(batch.text, batch.text_padding)[1]
        fused = flava.learner.backbone.encode_pair(batch.image, batch.text, batch.text_padding)
    assert torch.allclose(flava.encode_image(images), normalize(image, dim=-1), atol=1e-6)
    assert torch.allclose(flava.encode_text(texts), normalize(text, dim=-1), atol=1e-6)
    assert torch.allclose(flava.encode_pair(images, texts), fused[:, 0], atol=1e-5)


def test_scores_are_scaled_cosines(flava: Flava, samples: list[Sample]) -> None:
    images, texts = images_of(samples), texts_of(samples)[:4]
    scores = flava.score(images, texts)
    assert scores.shape == (9, 4)
    # CLIP's and torchmultimodal's first temperature
    assert flava.scale == pytest.approx(1 / 0.07, rel=1e-4)
    expected = flava.scale * flava.encode_image(images) @ flava.encode_text(texts).T
    assert torch.allclose(scores, expected)


def test_batches_do_not_matter(run_dir: Path, samples: list[Sample]) -> None:
    flava = load(run_dir)
    images, texts = images_of(samples), texts_of(samples)
    whole = flava.encode_image(images), flava.encode_text(texts), flava.encode_pair(images, texts)
    flava.batch_size = 2
    parts = flava.encode_image(images), flava.encode_text(texts), flava.encode_pair(images, texts)
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(whole, parts, strict=True))


def test_nothing_in_gives_nothing_out(flava: Flava) -> None:
    assert flava.encode_image([]).shape == flava.encode_text([]).shape == (0, 8)
    assert flava.encode_pair([], []).shape == (0, 16)


def test_pictures_may_be_paths(flava: Flava, samples: list[Sample], tmp_path: Path) -> None:
    image = images_of(samples)[0]
    path = tmp_path / "picture.png"
    image.save(path)
    found, expected = flava.encode_image([path, str(path)]), flava.encode_image([image, image])
    assert torch.equal(found, expected)


def test_one_text_or_picture_is_no_list_of_them(flava: Flava, samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match=r"give a list, such as \['red'\]"):
        flava.encode_text("red")
    with pytest.raises(ValueError, match="is one picture or text"):
        flava.encode_image("0.png")
    with pytest.raises(ValueError, match="is one picture or text"):
        flava.encode_pair(images_of(samples)[:3], "red")


def test_training_mode_is_left_as_it_was(flava: Flava, samples: list[Sample]) -> None:
    flava.learner.train()
    flava.encode_image(images_of(samples))
    assert flava.learner.training
    flava.learner.eval()
    flava.encode_text(["a red circle"])
    assert not flava.learner.training


def test_embeddings_can_be_trained_on(flava: Flava, samples: list[Sample]) -> None:
    embedded = flava.encode_image(images_of(samples))
    weight = torch.zeros(8, requires_grad=True)
    (embedded @ weight).sum().backward()
    assert weight.grad is not None


def test_masks_are_the_same_for_the_same_key_and_hide_nothing_without(
    flava: Flava, samples: list[Sample]
) -> None:
    keys = [Key("evaluate", 0, index) for index in range(9)]
    first, second = (flava.batch(samples, "pair", keys=keys) for _ in range(2))
    assert first.patch_mask is not None
    assert second.patch_mask is not None
    assert torch.equal(first.patch_mask, second.patch_mask)
    plain = flava.batch(samples, "pair")
    assert plain.patch_mask is None
    assert plain.text_masked is None


def test_checkpoints_are_chosen_by_step(run_dir: Path) -> None:
    first, latest, second = load(run_dir, 1), load(run_dir), load(run_dir, "2")
    weights = [flava.learner.backbone.image_projection.weight for flava in (first, latest, second)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_errors_name_the_place_and_the_way_out(
    flava: Flava, run_dir: Path, tmp_path: Path, samples: list[Sample]
) -> None:
    with pytest.raises(ValueError, match="no recipe.yaml"):
        load(tmp_path)
    with pytest.raises(ValueError, match="no checkpoint '7'"):
        load(run_dir, 7)
    with pytest.raises(ValueError, match="does not fit the model section"):
        load(run_dir, overrides=["model.projection=4"])
    with pytest.raises(ValueError, match="nowhere.png"):
        flava.encode_image([tmp_path / "nowhere.png"])
    with pytest.raises(ValueError, match="1 for 2"):
        flava.encode_pair(images_of(samples)[:2], ["one text"])
    with pytest.raises(ValueError, match="no objective 'vqa'"):
        flava.predict("vqa", flava.batch(samples, "pair"))


FEW = (
    "evaluate.tasks.retrieval.dataset.size=12",
    "evaluate.tasks.zero_shot.dataset.size=8",
    "evaluate.tasks.masked.dataset.size=8",
    "evaluate.tasks.itm.dataset.size=8",
    "evaluate.tasks.questions.dataset={type: shapes_questions, kind: color, size: 16}",
    "evaluate.tasks.questions.train={type: shapes_questions, kind: color, size: 32}",
)


def test_eval_writes_results_and_report_and_ends_with_the_table(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run_dir), "--split", "publish", *FEW]) == 0
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    expected = {
        "retrieval": (
            *(f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)),
            "gallery_size",
        ),
        "zero_shot": ("unseen_combinations", "classes", "chance"),
        "masked": ("words", "words_majority", "patches", "patches_majority", "mlm", "mim"),
        "itm": ("accuracy", "majority"),
        "questions": ("color", "color_majority"),
    }
    for task, figures in expected.items():
        assert set(figures) <= set(results[task])
        assert all(results[task][name] >= 0 for name in figures)
    assert results["retrieval"]["gallery_size"] == 12
    assert (results["seed"], results["split"]) == (3, "publish")
    assert results["seconds"]["train"] == 100
    assert 100 < results["seconds"]["total"] < 200
    report = (run_dir / "report.html").read_text(encoding="utf-8")
    shown = ("Retrieval", "Masked words", "Masked patches", "Matching")
    for heading in ("Results", "Losses", "Throughput", *shown):
        assert f"<h2>{heading}</h2>" in report
    last = capsys.readouterr().out.splitlines()
    assert last[-1].startswith("split publish, seed 3, train 100 s")
    assert [line.split()[0] for line in last if line.startswith(("task", "zero", "itm"))] == [
        "task",
        "zero",
        "itm",
    ]


def test_eval_of_one_task_twice_gives_the_same(run_dir: Path) -> None:
    found = []
    for _ in range(2):
        command = ["eval", str(run_dir), "--tasks", "masked,questions", "--no-report", *FEW]
        assert main(command) == 0
        results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
        assert "retrieval" not in results
        found.append((results["masked"], results["questions"]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tasks", "vqa"], "no task vqa"),
        (["--checkpoint", "9"], "no checkpoint '9'"),
        (["evaluate.tasks.itm.mask=1"], "evaluate.tasks.itm.mask"),
        (["--split", "nowhere"], "dataset 'shapes_pairs': split: Input should be 'train'"),
    ],
)
def test_eval_refuses_what_it_cannot_do(
    run_dir: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run_dir), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
