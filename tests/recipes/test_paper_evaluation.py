"""``flava eval --data``: the paper's frozen tasks on tiny trees in their published layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_run import start, write_recipe

from flava_plugin.evaluate import paper_run
from flava_plugin.evaluate.compare import comparison, figures_of
from flava_plugin.evaluate.paper_run import evaluate_paper, paper_table

pytest.importorskip("sklearn", reason="pip install '.[dev]'")
pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    done = start(write_recipe(folder))
    assert done.wait() == 0, done.stderr and done.stderr.read()
    return folder / "run"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for part in ("train", "valid", "test"):
        for place, name in enumerate(("negative", "positive")):
            home = folder / "rendered-sst2" / part / name
            home.mkdir(parents=True)
            for number in range(6):
                colour = (255 * place, 255 - 255 * place, number * 20)
                Image.new("RGB", (48, 48), colour).save(home / f"{number}.png")
    pictures = folder / "flickr30k" / "flickr30k-images"
    pictures.mkdir(parents=True)
    entries = []
    for number in range(12):
        Image.new("RGB", (48, 48), (number * 20, 40, 90)).save(pictures / f"{number}.jpg")
        raw = [{"raw": f"picture {number} in words {line}"} for line in range(5)]
        ids = list(range(number * 5, number * 5 + 5))
        entry = {"filename": f"{number}.jpg", "split": "test", "imgid": number}
        entries.append({**entry, "sentences": raw, "sentids": ids})
    named = folder / "flickr30k" / "dataset_flickr30k.json"
    named.write_text(json.dumps({"dataset": "flickr30k", "images": entries}))
    return folder


def test_what_is_there_is_measured_and_the_rest_is_listed(run_dir: Path, root: Path) -> None:
    found = evaluate_paper(run_dir, root)
    assert set(found["tasks"]) == {"rendered_sst2", "flickr30k"}, found["not_run"]
    assert found["tasks"]["rendered_sst2"]["train"] == 24  # train and valid
    assert found["tasks"]["flickr30k"]["gallery_size"] == 12
    assert len(found["not_run"]) == 22
    assert found["not_run"]["mnist"] == f"no {root / 'MNIST'}"
    assert set(found["averages"]) == {"vision", "multimodal"}
    table = paper_table(found)
    assert "57.11" in table and "82.20" in table and "not run: mnist" in table
    assert "mean multimodal  of 4 figures" in table


def test_an_evaluation_goes_on_where_it_ended(
    run_dir: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_paper(run_dir, root)
    monkeypatch.setattr(paper_run, "load", lambda *_, **__: pytest.fail("measured anew"))
    assert evaluate_paper(run_dir, root) == first
    (run_dir / "paper" / "flickr30k.json").write_text("{")  # as no crash of ours leaves it
    with pytest.raises(pytest.fail.Exception):
        evaluate_paper(run_dir, root)
    monkeypatch.undo()
    assert evaluate_paper(run_dir, root, again=True) == first  # the same figures to the last bit
    picture = root / "flickr30k" / "flickr30k-images" / "7.jpg"
    kept = picture.read_bytes()
    picture.write_bytes(kept[:-2] + b"\xff\xd8")
    monkeypatch.setattr(paper_run, "load", lambda *_, **__: pytest.fail("measured anew"))
    with pytest.raises(pytest.fail.Exception):  # one picture of other bytes, as long as it was
        evaluate_paper(run_dir, root)
    picture.write_bytes(kept)


def test_a_task_for_a_run_of_its_own_says_so(run_dir: Path, root: Path) -> None:
    found = evaluate_paper(run_dir, root, names=["vqav2", "cola", "rte"])
    assert found["not_run"] == {
        "vqav2": "needs a run of its own: flava train finetune/vqav2",
        "cola": "needs a run of its own: flava train finetune/glue "
        "data.sources.train.dataset.task=cola evaluate.tasks.glue.dataset.task=cola "
        "evaluate.metric=glue.matthews",
        "rte": "needs a run of its own: flava train finetune/glue",
    }
    with pytest.raises(ValueError, match="no task 'cifar'"):
        evaluate_paper(run_dir, root, names=["cifar"])
    with pytest.raises(ValueError, match="no such folder"):
        evaluate_paper(run_dir, root / "nowhere")


def test_the_command_prints_the_paper_beside_the_run(run_dir: Path, root: Path) -> None:
    command = [sys.executable, "-m", "flava_plugin", "eval", str(run_dir), "--data", str(root)]
    command += ["--tasks", "flickr30k", "--compare", str(run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "CLIP (400M)" in done.stdout and "+0.0000" in done.stdout


def test_runs_are_compared_by_what_they_share(tmp_path: Path) -> None:
    for name, value in (("one", 0.75), ("two", 0.5)):
        (tmp_path / name).mkdir()
        tasks = {"probe": {"accuracy": value, "train": 9, name: 1.0}, "seconds": {"total": 1.0}}
        (tmp_path / name / "results.json").write_text(json.dumps(tasks))
    assert figures_of(tmp_path / "one") == {("probe", "accuracy"): 0.75, ("probe", "one"): 1.0}
    text = comparison(tmp_path / "one", tmp_path / "two")
    assert text.splitlines()[1].split() == ["probe", "accuracy", "0.7500", "0.5000", "+0.2500"]
    with pytest.raises(ValueError, match="was not evaluated"):
        comparison(tmp_path / "one", tmp_path)
