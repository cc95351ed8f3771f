"""The eleven fine-tuned tasks from their recipe on, beside scikit-learn's figures and scipy's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import tuned_trees as trees
from PIL import Image
from tiny_run import write_recipe
from torch import Tensor
from tuned_trees import Row

import flava_plugin
from flava_plugin.cli.main import main
from flava_plugin.evaluate.paper_tasks import TASKS, PaperTask
from flava_plugin.train import checkpoint
from flava_plugin.types import Sample

sk = pytest.importorskip("sklearn.metrics", reason="pip install '.[dev]'")
stats = pytest.importorskip("scipy.stats", reason="pip install '.[dev]'")
pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")

TUNED = [task for task in TASKS.values() if task.kind == "finetuned"]
SMALL = (
    *("steps=80", "data.global_batch=12", "data.per_gpu_batch=null", "data.workers=0"),
    *("optim.lr=0.005", "optim.warmup_steps=3", "evaluate.every=40", "threads=1"),
)
"""All that a small machine needs changed in a recipe, and a rate at which so few steps teach it."""

LARGER = "model.image_encoder.image_size=48"
"""VQAv2's 480 pixels, after pretraining at 24 instead of 224."""


class Data(NamedTuple):
    """A pretrained run and the data root."""

    run: Path
    root: Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tuned")
    recipe = write_recipe(folder, steps=2)
    small = ["model.image_encoder.image_size=24", "data.image.size=24"]
    small += ["data.image.codebook_size=24", "data.masking.patch_count=4"]
    assert main(["train", str(recipe), *small]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAVA_DATA", str(folder / "data"))
        yield Data(folder / "run", folder / "data")


def logits(flava: Any, rows: list[Row]) -> Tensor:
    """What the head says about rows that are read here."""
    modality = "text" if rows[0].image is None else "pair"
    samples = []
    for row in rows:
        image = None if row.image is None else Image.open(row.image).convert("RGB")
        samples.append(Sample(image, row.text, second_text=row.second))
    found: Tensor = flava.predict("answers", flava.batch(samples, modality)).float()
    return found


def by_class(flava: Any, rows: list[Row]) -> dict[str, float]:
    said = logits(flava, rows)
    truth, guessed = [row.label for row in rows], said.argmax(1).tolist()
    assert len(set(guessed)) > 1, "a head that always says the same proves no metric"
    figures = {"accuracy": sk.accuracy_score(truth, guessed)}
    if said.shape[1] == 2:
        f1 = sk.f1_score(truth, guessed)
        figures |= {"f1": f1, "accuracy_and_f1": (f1 + figures["accuracy"]) / 2}
        figures["matthews"] = sk.matthews_corrcoef(truth, guessed)
        figures["auroc"] = sk.roc_auc_score(truth, said.softmax(1)[:, 1].numpy())
    return figures


def by_score(flava: Any, rows: list[Row]) -> dict[str, float]:
    said, truth = logits(flava, rows)[:, 0].numpy(), [row.label for row in rows]
    pearson, spearman = stats.pearsonr(said, truth), stats.spearmanr(said, truth)
    return {"pearson": pearson.statistic, "spearman": spearman.statistic}


def by_hand(flava: Any, rows: list[Row]) -> dict[str, float]:
    """An answer is as right as three of the other nine people say, for each of the ten."""
    pictures, questions = [row.image for row in rows], [row.text for row in rows]
    answers = [best.name for (best,) in flava.answer(pictures, questions, k=1)]
    assert len(set(answers)) > 1
    scores = []
    for row, answer in zip(rows, answers, strict=True):
        others = [row.label[:place] + row.label[place + 1 :] for place in range(10)]
        scores += [min(1.0, nine.count(answer) / 3) for nine in others]
    return {"vqa_accuracy": sum(scores) / len(scores)}


HANDS: dict[str, Callable[[Any, list[Row]], dict[str, float]]] = {
    "stsb": by_score,
    "vqav2": by_hand,
}


def written(task: PaperTask, root: Path) -> list[Row]:
    """Write a task's tree."""
    own = {"vqav2": trees.vqav2, "snli_ve": trees.snli_ve, "hateful_memes": trees.hateful_memes}
    if task.dataset != "glue":
        return own[task.name](root)
    return trees.glue(root, task.name, "dev_matched" if task.name == "mnli" else "dev")


def tuned(
    data: Data, task: PaperTask, name: str, *more: str
) -> tuple[Path, dict[str, dict[str, float]]]:
    """Train a task's recipe, evaluate the run; where it is and what it gave."""
    run = data.run.parent / name
    changes = (*task.changes, *more, *([LARGER] if task.name == "vqav2" else []))
    command = ["train", task.recipe, f"init.run={data.run}", f"run_dir={run}", *SMALL, *changes]
    assert main(command) == 0
    assert main(["eval", str(run), "--no-report"]) == 0
    return run, json.loads((run / "results.json").read_text())


def test_there_are_eleven() -> None:
    assert len(TUNED) == 11 and {task.name for task in TUNED} > set(trees.TABLES)


@pytest.mark.parametrize("task", TUNED, ids=lambda task: task.name)
def test_a_task_gives_what_others_compute(
    task: PaperTask, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {"": written(task, data.root)}
    if task.name == "mnli":
        sets["_mismatched"] = trees.glue(data.root, "mnli", "dev_mismatched")
    run, results = tuned(data, task, task.name)
    flava = flava_plugin.load(run)
    name = "glue" if task.recipe == "finetune/glue" else task.name
    printed = []
    for end, rows in sets.items():
        expected, found = HANDS.get(task.name, by_class)(flava, rows), results[name + end]
        assert found["samples"] == len(rows)
        assert task.metric in found and set(found) & set(expected)
        for figure in set(found) & set(expected):
            assert found[figure] == pytest.approx(expected[figure], abs=1e-5), figure
        printed.append(expected[task.metric])
    during = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in during] == [40, 80]
    assert (run / "checkpoints" / "best").exists()
    # in the paper's table, beside its own figure
    capsys.readouterr()
    command = ["eval", str(data.run), "--data", str(data.root), "--tasks", "rte"]
    assert main([*command, "--with", f"{task.name}={run}"]) == 0
    joined = json.loads((data.run / "paper_tasks.json").read_text())["tasks"][task.name]
    assert joined == {task.metric: pytest.approx(sum(printed) / len(printed), abs=1e-5)}
    shown = f"{100 * joined[task.metric]:.2f} {task.printed[task.metric][0]:.2f}"
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith(f"{task.name} {task.metric} {shown}") for line in lines)


def test_pictures_twice_as_large_have_positions_of_their_own(data: Data) -> None:
    """A run at 24 pixels has 9 patches, as one at 224 has 196; the recipe's 480 is 48 here."""
    before = checkpoint.find(data.run).model()
    trees.vqav2(data.root)
    task, small = TASKS["vqav2"], ("steps=1", "optim.lr=1e-9", "evaluate.every=0")
    after = checkpoint.find(tuned(data, task, "positions", *small)[0]).model()
    (name,) = [n for n, value in after.items() if value.shape != before.get(n, value).shape]
    assert (before[name].shape, after[name].shape) == ((1, 10, 16), (1, 37, 16)), name
    assert torch.allclose(after[name][:, 0], before[name][:, 0], atol=1e-6), "that of [CLS] stays"
    sides = (before[name][:, 1:].unflatten(1, (3, 3)), after[name][:, 1:].unflatten(1, (6, 6)))
    corners = [side[:, (0, 0, -1, -1), (0, -1, 0, -1)].flatten() for side in sides]
    assert torch.corrcoef(torch.stack(corners))[0, 1] > 0.9, "corners stay where they are"


def hit_rates(flava: Any, pairs: list[tuple[Path, list[str]]]) -> dict[str, float]:
    """Recall both ways, by the cosines of what is encoded here."""
    images = flava.encode_image([path for path, _ in pairs])
    texts = flava.encode_text([caption for _, captions in pairs for caption in captions])
    right = torch.arange(len(pairs))[:, None] == torch.arange(len(texts)) // 5
    found = {}
    for side, scores, truth in (
        ("image_to_text", images @ texts.T, right),
        ("text_to_image", texts @ images.T, right.T),
    ):
        order = truth.gather(1, scores.argsort(1, descending=True))
        for k in (1, 5, 10):
            found[f"{side}_r{k}"] = order[:, :k].any(1).double().mean().item()
    return found


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_retrieval_is_tuned_on_train_and_measured_on_test(name: str, data: Data) -> None:
    pairs, run = trees.karpathy(data.root, name), data.run.parent / f"retrieval_{name}"
    keys = ("data.sources.train", "evaluate.tasks.retrieval")
    changes = [f"{key}.dataset.path=$FLAVA_DATA/{name}" for key in keys if name != "coco"]
    command = ["train", "finetune/retrieval", f"init.run={data.run}", f"run_dir={run}"]
    assert main([*command, *SMALL, *changes, "steps=40", "evaluate.every=20"]) == 0
    (about,) = json.loads((run / "data.json").read_text())["sources"].values()
    assert about["samples"] == 5 * len(pairs["train"] + pairs["restval"])
    during = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    latest = flava_plugin.load(run)
    own = hit_rates(latest, pairs["val"])
    assert [line["step"] for line in during] == [20, 40]
    assert {key: during[1][f"retrieval.{key}"] for key in own} == pytest.approx(own)
    best = str(max(during, key=lambda line: line["retrieval.image_to_text_r1"])["step"])
    for which in ("latest", "best"):
        options = ["--split", "test", "--checkpoint", which, "--no-report"]
        assert main(["eval", str(run), *options]) == 0
        found = json.loads((run / "results.json").read_text())["retrieval"]
        flava = latest if which == "latest" else flava_plugin.load(run, int(best))
        own = hit_rates(flava, pairs["test"])
        assert found == pytest.approx({**own, "gallery_size": len(pairs["test"])})


def test_a_dev_that_is_not_there_is_told_before_the_first_step(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.glue(data.root, "mnli", "dev_matched")
    missing = data.root / "glue" / "MNLI" / "dev_mismatched.tsv"
    missing.unlink(missing_ok=True)
    run = data.run.parent / "half"
    command = ["train", "finetune/glue_mnli", f"init.run={data.run}", f"run_dir={run}"]
    assert main([*command, *SMALL]) == 2
    assert f"{missing}: no such file" in capsys.readouterr().err
    assert not (run / "metrics.jsonl").exists()
