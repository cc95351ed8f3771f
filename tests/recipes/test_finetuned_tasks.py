"""The eleven fine-tuned tasks from their recipe on, beside scikit-learn's, scipy's and hand-made figures."""

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
from flava_plugin.types import Sample

sk = pytest.importorskip("sklearn.metrics", reason="pip install '.[dev]'")
stats = pytest.importorskip("scipy.stats", reason="pip install '.[dev]'")
pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")

TUNED = [task for task in TASKS.values() if task.kind == "finetuned"]
SMALL = (
    *("steps=3", "data.global_batch=4", "data.per_gpu_batch=null", "data.workers=0"),
    *("optim.warmup_steps=1", "evaluate.every=2", "threads=1", "metrics.tensorboard=false"),
)
"""All that a small machine needs changed in a recipe."""

OWN = {
    "vqav2": ("model.image_encoder.image_size=48", "optim.lr=0.003"),
    "cola": ("evaluate.metric=glue.matthews",),
    "mrpc": ("evaluate.metric=glue.accuracy_and_f1",),
    "qqp": ("evaluate.metric=glue.accuracy_and_f1",),
}
"""Further changes: pictures twice as large as the pretrained run's 24 pixels; what a header says."""


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
    scores = []
    for row, (best,) in zip(rows, flava.answer(pictures, questions, k=1), strict=True):
        others = [row.label[:place] + row.label[place + 1 :] for place in range(10)]
        scores += [min(1.0, nine.count(best.name) / 3) for nine in others]
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


def tuned(data: Data, task: PaperTask) -> tuple[Path, dict[str, dict[str, float]]]:
    """Train a task's recipe, evaluate the run; where it is and what it gave."""
    run = data.run.parent / task.name
    changes = list(OWN.get(task.name, ()))
    if task.recipe == "finetune/glue":
        changes += [f"data.sources.train.dataset.task={task.name}"]
        changes += [f"evaluate.tasks.glue.dataset.task={task.name}"]
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
    run, results = tuned(data, task)
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
    assert [line["step"] for line in during] == [2, 3], "and the best is kept"
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
