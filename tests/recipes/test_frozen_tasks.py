"""The 22 probes and both retrieval sets from ``flava eval`` on, beside scikit-learn's figures."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from frozen_trees import Truth
from frozen_trees_more import MD5, PROBES, RETRIEVAL, Pairs
from PIL import Image
from tiny_run import write_recipe

import flava_plugin
from flava_plugin.cli.main import main
from flava_plugin.evaluate.frozen_tasks import FROZEN
from flava_plugin.types import Sample

linear_model = pytest.importorskip("sklearn.linear_model", reason="pip install '.[dev]'")
metrics = pytest.importorskip("sklearn.metrics", reason="pip install '.[dev]'")
torchmetrics = pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")
pytest.importorskip("h5py", reason="pip install '.[dev]'")


class Data(NamedTuple):
    """A run, the data root, and what is true of it."""

    run: Path
    root: Path
    truths: dict[str, Truth]
    pairs: dict[str, Pairs]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Data]:
    folder = tmp_path_factory.mktemp("frozen")
    assert main(["train", str(write_recipe(folder, steps=2))]) == 0
    root = folder / "data"
    truths = {name: write(root) for name, write in PROBES.items()}
    pairs = {name: write(root) for name, write in RETRIEVAL.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name in MD5:  # no tiny archive has the published md5
            module = importlib.import_module(f"torchvision.datasets.{name}")
            patch.setattr(module, "check_integrity", lambda *_, **__: True)
        yield Data(folder / "run", root, truths, pairs)


@pytest.fixture(scope="module")
def flava(data: Data) -> Any:
    return flava_plugin.load(data.run)


def evaluated(data: Data, name: str) -> dict[str, float]:
    """The figures of ``flava eval``, as the run folder keeps them."""
    assert main(["eval", str(data.run), "--data", str(data.root), "--tasks", name]) == 0
    found: dict[str, float] = json.loads((data.run / "paper_tasks.json").read_text())["tasks"][name]
    return found


def features(flava: Any, rows: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The image encoder's [CLS] of pictures that are read here, and their classes."""
    samples = []
    for picture, _ in rows:
        image = Image.open(picture) if isinstance(picture, Path) else Image.fromarray(picture)
        samples.append(Sample(image.convert("RGB")))
    hidden = flava.features(flava.batch(samples, "image"), "image.cls")[:, 0]
    return hidden.numpy(), np.array([label for _, label in rows])


def test_every_frozen_task_is_tried_here() -> None:
    assert {*PROBES, *RETRIEVAL} == set(FROZEN) and len(FROZEN) == 24


def by_scikit_learn(
    fitted: Any, asked: tuple[np.ndarray, np.ndarray], exponent: float, figure: str
) -> tuple[float, float]:
    """A probe's figure, and how far rows that lie on a boundary can move it."""
    model = linear_model.LogisticRegression(C=10.0**-exponent, max_iter=1000).fit(*fitted)
    scores, guessed = model.decision_function(asked[0]), model.predict(asked[0])
    sides = np.stack([-scores, scores], 1) if scores.ndim == 1 else scores
    first, second = -np.sort(-sides, axis=1)[:, :2].T
    # classes have equally many rows, so that a row counts the same in both metrics
    slack = float((first - second < 1e-3 * np.abs(sides).max()).mean())
    score = metrics.accuracy_score if figure == "accuracy" else metrics.balanced_accuracy_score
    return float(score(asked[1], guessed)), slack


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_gives_what_scikit_learn_gives(name: str, data: Data, flava: Any) -> None:
    found, truth = evaluated(data, name), data.truths[name]
    train, test = features(flava, truth["train"]), features(flava, truth["test"])
    held = features(flava, truth["val"]) if "val" in truth else None
    both = train if held is None else [np.concatenate(p) for p in zip(train, held, strict=True)]
    assert (found["train"], found["test"]) == (len(both[1]), len(test[1]))
    figure = next(key for key in ("accuracy", "mean_per_class") if key in found)
    chosen = found["lambda_exponent"]
    expected, slack = by_scikit_learn(both, test, chosen, figure)
    assert found[figure] == pytest.approx(expected, abs=slack + 1e-6)
    if held is not None:  # the published validation part is what lambda was chosen on
        best, slack = by_scikit_learn(train, held, chosen, figure)
        for exponent in range(-6, 7, 2):
            other, more = by_scikit_learn(train, held, exponent, figure)
            assert best >= other - slack - more, exponent


@pytest.mark.parametrize("name", RETRIEVAL)
def test_retrieval_gives_what_torchmetrics_gives(name: str, data: Data, flava: Any) -> None:
    found, pairs = evaluated(data, name), data.pairs[name]
    assert found["gallery_size"] == len(pairs) == 8
    images = flava.encode_image([path for path, _ in pairs])
    texts = flava.encode_text([caption for _, captions in pairs for caption in captions])
    own = torch.arange(len(pairs)).repeat_interleave(5)
    scores = images @ texts.T
    right = torch.arange(len(pairs))[:, None] == own
    for k in (1, 5):
        for key, table, truth in (
            (f"image_to_text_r{k}", scores, right),
            (f"text_to_image_r{k}", scores.T, right.T),
        ):
            rows = torch.arange(len(table))[:, None].expand_as(table)
            rate = torchmetrics.retrieval.RetrievalHitRate(top_k=k)
            expected = rate(table.flatten(), truth.flatten(), indexes=rows.flatten())
            assert found[key] == pytest.approx(float(expected), abs=1e-6), key


def test_all_of_them_are_measured_by_one_command(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(data.run), "--data", str(data.root), "--tasks", "all"]) == 0
    results = json.loads((data.run / "paper_tasks.json").read_text())
    assert set(results["tasks"]) == set(FROZEN) and not results["not_run"]
    assert "mean vision      of 22 figures" in capsys.readouterr().out
    assert f"split of {data.root / 'splits' / 'kitti'}" in results["notes"]["kitti"]


def test_zero_shot_by_prompts_of_a_file(data: Data, flava: Any, tmp_path: Path) -> None:
    names = ["circle", "square", "triangle"]
    templates = ["a red {}", "one small {} above", "the {}"]
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"classes": names, "templates": templates}))
    dataset = f"{{type: imagenet, path: {data.root / 'imagenet'}}}"
    spec = f"{{type: zero_shot, split: val, prompts: {prompts}, dataset: {dataset}}}"
    command = ["eval", str(data.run), "--tasks", "imagenet_zero_shot", "--no-report"]
    assert main([*command, f"evaluate.tasks.imagenet_zero_shot={spec}"]) == 0
    found = json.loads((data.run / "results.json").read_text())["imagenet_zero_shot"]
    rows = data.truths["imagenet"]["test"]
    classes = []
    for name in names:
        each = [flava.encode_text([template.format(name)])[0] for template in templates]
        mean = torch.stack(each).mean(0)
        classes.append(mean / mean.norm())
    scores = flava.encode_image([path for path, _ in rows]) @ torch.stack(classes).T
    expected = metrics.accuracy_score([label for _, label in rows], scores.argmax(1).tolist())
    assert found["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert (found["classes"], found["images"], found["chance"]) == (3, 12, pytest.approx(1 / 3))
