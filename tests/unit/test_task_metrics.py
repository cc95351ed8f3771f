"""Each metric against scikit-learn or scipy; the evaluator of heads on heads that are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluate_doubles import Listed
from torch import Tensor

from flava_plugin.data.vqa_answers import vqa_accuracy
from flava_plugin.evaluate.metrics import Metric, measure
from flava_plugin.evaluate.predictions import Predictions
from flava_plugin.evaluate.sharing import ALONE
from flava_plugin.types import Sample

sk = pytest.importorskip("sklearn.metrics", reason="pip install '.[dev]'")
stats = pytest.importorskip("scipy.stats", reason="pip install '.[dev]'")
pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")


def drawn(classes: int, rows: int = 300, absent: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (rows,), generator=generator)
    if absent is not None:
        labels[labels == absent] = 0
    logits = torch.randn(rows, classes, generator=generator)
    logits[torch.arange(rows), labels] += 1
    return logits, labels


@pytest.mark.parametrize("absent", [None, 3])
def test_class_metrics_equal_scikit_learn(absent: int | None) -> None:
    logits, labels = drawn(5, absent=absent)
    guesses = logits.argmax(1).numpy()
    truth = labels.numpy()
    assert measure("accuracy", "class", logits, labels) == pytest.approx(
        sk.accuracy_score(truth, guesses)
    )
    expected = np.mean([np.mean(guesses[truth == c] == c) for c in np.unique(truth)])
    assert measure("mean_per_class", "class", logits, labels) == pytest.approx(expected)
    assert measure("matthews", "class", logits, labels) == pytest.approx(
        sk.matthews_corrcoef(truth, guesses)
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_a_matthews_correlation_that_is_not_defined_is_0(classes: int) -> None:
    """Of two classes torchmetrics gives some other number, by which GLUE's CoLA is not scored."""
    logits, labels = drawn(classes)
    same = torch.zeros_like(logits).index_fill(1, torch.tensor(1), 1.0)
    for said, truth in ((same, labels), (logits, torch.ones_like(labels))):
        assert measure("matthews", "class", said, truth) == 0
        assert sk.matthews_corrcoef(truth.numpy(), said.argmax(1).numpy()) == 0


def test_two_class_metrics_equal_scikit_learn() -> None:
    logits, labels = drawn(2)
    guesses, truth = logits.argmax(1).numpy(), labels.numpy()
    f1 = sk.f1_score(truth, guesses)
    assert measure("f1", "class", logits, labels) == pytest.approx(f1)
    both = (f1 + sk.accuracy_score(truth, guesses)) / 2
    assert measure("accuracy_and_f1", "class", logits, labels) == pytest.approx(both)
    shares = logits.softmax(1)[:, 1].numpy()
    area = sk.roc_auc_score(truth, shares)
    assert measure("auroc", "class", logits, labels) == pytest.approx(area, abs=1e-6)
    assert np.isnan(measure("auroc", "class", logits, torch.ones_like(labels)))
    with pytest.raises(ValueError, match="two classes"):
        measure("auroc", "class", *drawn(3))


def test_regression_metrics_equal_scipy_batch_by_batch() -> None:
    labels = torch.rand(200, generator=torch.Generator().manual_seed(0)) * 5
    guesses = (labels + torch.randn(200, generator=torch.Generator().manual_seed(1))).round()
    for name, reference in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        metric = Metric(name, "regression", 1)
        for start in range(0, 200, 64):
            metric.update(guesses[start : start + 64], labels[start : start + 64])
        expected = reference(guesses.numpy(), labels.numpy()).statistic
        assert metric.value() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_regression_that_says_always_the_same_has_a_correlation_of_0(name: str) -> None:
    labels, same = torch.arange(8.0), torch.full((8,), 0.5)
    assert measure(name, "regression", same, labels) == 0
    assert np.isnan(measure(name, "regression", labels, same)), "and where labels do, it has none"
    assert np.isnan(measure("pearson", "regression", torch.full((8,), torch.nan), labels))


def test_multilabel_metrics_equal_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(200, 6, generator=generator)
    labels = (logits + torch.randn(200, 6, generator=generator) > 0).long()
    guesses, truth = (logits > 0).numpy(), labels.numpy()
    assert measure("f1", "multilabel", logits, labels) == pytest.approx(
        sk.f1_score(truth, guesses, average="micro")
    )
    assert measure("auroc", "multilabel", logits, labels) == pytest.approx(
        sk.roc_auc_score(truth, logits.numpy(), average="macro"), abs=1e-6
    )
    assert measure("accuracy", "multilabel", logits, labels) == pytest.approx(
        float((guesses == truth).mean())
    )


class Saying:
    """Stands in for ``Flava``: its head says what the samples bear under ``says``."""

    batch_size = 7
    ranks = ALONE
    objectives = ("answers",)
    recipe = SimpleNamespace(objectives={"answers": SimpleNamespace(modality="pair")})

    def batch(self, samples: list[Sample], modality: str) -> list[Sample]:
        assert modality == "pair"
        return samples

    def predict(self, objective: str, batch: list[Sample]) -> Tensor:
        return torch.tensor([sample.extra["says"] for sample in batch])


def task(rows: list[dict[str, object]], *metrics: str, **more: object) -> Predictions:
    listed = Listed([Sample(text="t", extra=row) for row in rows])
    return Predictions(listed, "answers", "label", metrics, **more)  # type: ignore[arg-type]


def test_a_head_is_measured_by_class_and_group() -> None:
    right, wrong = [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]
    rows: list[dict[str, object]] = [{"says": right, "label": 1, "kind": "colour"}] * 20
    rows += [{"says": wrong, "label": 2, "kind": "count"}] * 10
    figures = task(rows, "accuracy", "mean_per_class", group_by="kind")(Saying())  # type: ignore[arg-type]
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["accuracy_majority"] == pytest.approx(2 / 3)
    assert figures["mean_per_class"] == 0.5
    assert figures["accuracy_colour"] == 1 and figures["accuracy_count"] == 0
    assert figures["samples"] == 30
    assert task(rows, "accuracy", count=20)(Saying())["accuracy"] == 1  # type: ignore[arg-type]


def test_a_regression_head_may_have_a_column() -> None:
    rows: list[dict[str, object]] = [{"says": [x * 2.0], "label": float(x)} for x in range(9)]
    assert task(rows, "pearson")(Saying())["pearson"] == pytest.approx(1)  # type: ignore[arg-type]


def test_vqa_accuracy_reads_what_ten_people_said() -> None:
    ten = [["red"] * 2 + ["Dark red"] * 8, ["2"] * 10, ["two"] * 9 + ["2"]]
    soft = [[0.6, 0.0], [0.0, 1.0], [0.0, 1.0]]
    says = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    rows = [{"says": s, "label": x} for s, x in zip(says, soft, strict=True)]
    by_labels = task(rows, "vqa_accuracy")  # type: ignore[arg-type]
    assert by_labels(Saying())["vqa_accuracy"] == pytest.approx(1.6 / 3)  # type: ignore[arg-type]
    by_people = task(rows, "vqa_accuracy")  # type: ignore[arg-type]
    by_people.dataset.answers = ["red", "2"]
    by_people.dataset.ten_answers = ten.__getitem__
    expected = (vqa_accuracy("red", ten[0]) + 0 + 1) / 3
    assert by_people(Saying())["vqa_accuracy"] == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "metric", "text"),
    [
        ([{"says": [0.0, 1.0]}], "accuracy", "sample 0 has no label 'label'; it has says"),
        ([{"says": [0.0, 1.0], "label": 2}], "accuracy", "sample 0 has label 2"),
        ([{"says": [0.0, 1.0], "label": "x"}], "accuracy", "is no number"),
        ([{"says": [0.0, 1.0], "label": [1, 0, 1]}], "f1", "3 numbers a sample"),
        ([{"says": [0.0, 1.0], "label": 1}], "pearson", "no 'pearson' for a class"),
        ([], "accuracy", "the dataset is empty"),
    ],
)
def test_what_cannot_be_measured_is_named(
    rows: list[dict[str, object]], metric: str, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        task(rows, metric)(Saying())  # type: ignore[arg-type]
