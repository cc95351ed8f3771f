"""Linear probes: the sweep, the held-out rows, the features on disk."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluate_doubles import Listed, number_of, numbered
from torch import Tensor, nn

from flava_plugin.evaluate import linear_probe
from flava_plugin.evaluate.linear_probe import LinearProbe, probe, stratified
from flava_plugin.evaluate.logistic import choose_and_fit, fit
from flava_plugin.evaluate.sharing import ALONE
from flava_plugin.schema import Component, Section
from flava_plugin.types import Sample

linear_model = pytest.importorskip("sklearn.linear_model", reason="pip install '.[dev]'")
pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")


def clouds(rows: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    features = dice.normal(size=(rows, 6)).astype(np.float32)
    features[np.arange(rows), labels] += 1.5
    return features, labels


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(1) == labels).mean())


def test_the_sweep_ends_at_an_eighth_of_a_power_of_ten_and_fits_to_everything() -> None:
    train, held = clouds(120, 0), clouds(60, 1)
    found = choose_and_fit(train, held, accuracy, classes=3)
    assert {-6, -4, -2, 0, 2, 4, 6} <= set(found.tried)
    best = max(found.tried.values())
    chosen = np.log10(found.strength)
    assert found.tried[min(found.tried, key=lambda e: abs(e - chosen))] == best
    assert (chosen * 8).round(6) == round(chosen * 8) and found.converged
    both = [np.concatenate(pair) for pair in zip(train, held, strict=True)]
    reference = linear_model.LogisticRegression(C=1 / found.strength, max_iter=1000).fit(*both)
    test = clouds(90, 2)[0]
    assert np.allclose(found.logits(test), reference.decision_function(test), atol=1e-4)


@pytest.mark.parametrize("present", [(0, 2), (1, 2, 3)])
def test_a_class_without_rows_is_never_predicted(present: tuple[int, ...]) -> None:
    features, labels = clouds(60, 3, len(present))
    logits, _ = fit(features, np.array(present)[labels], 1.0, classes=4, iterations=100)
    assert set(logits(features).argmax(1)) == set(present)
    with pytest.raises(ValueError, match="only class"):
        fit(features, np.zeros(60, np.int64), 1.0, classes=4, iterations=100)


def test_held_out_rows_are_of_every_class_and_depend_on_the_seed_alone() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 10, 2, 1])
    chosen = stratified(labels, 0.2, 5)
    assert [int(chosen[labels == c].sum()) for c in range(4)] == [10, 2, 1, 0]
    assert (chosen == stratified(labels, 0.2, 5)).all()
    assert (chosen != stratified(labels, 0.2, 6)).any()


class Reading:
    """Stands in for ``Flava``: [CLS] of a picture is a function of its number and a weight."""

    batch_size = 7
    ranks = ALONE

    def __init__(self, weight: float = 1.0) -> None:
        self.learner = SimpleNamespace(backbone=nn.Linear(1, 1))
        nn.init.constant_(self.learner.backbone.weight, weight)
        nn.init.zeros_(self.learner.backbone.bias)
        data = SimpleNamespace(image=Section(), text=Section(), tokenizer=Component(type="t"))
        self.recipe = SimpleNamespace(data=data, model=SimpleNamespace(padding="masked"))
        self.asked = 0

    def batch(self, samples: list[Sample], modality: str) -> list[Sample]:
        assert modality == "image"
        return samples

    def features(self, batch: list[Sample], field: str) -> Tensor:
        assert field == "image.cls"
        self.asked += len(batch)
        numbers = torch.tensor([[float(number_of(sample.image)) % 5] for sample in batch])
        return torch.nn.functional.one_hot(numbers.long(), 5).float().expand(-1, 2, -1)


def task(cache: Path | None, label: object = None, count: int = 50) -> LinearProbe:
    rows = [Sample(numbered(n), extra={"label": n % 5 if label is None else label})
            for n in range(count)]  # fmt: skip
    sources = (Listed(rows), Component(type="listed", split="x"))
    return LinearProbe(sources, sources, cache=cache)


def test_features_are_kept_until_weights_or_data_change(tmp_path: Path) -> None:
    flava = Reading()
    first = task(tmp_path)(flava)  # type: ignore[arg-type]
    assert first["accuracy"] == 1 and first["accuracy_majority"] == pytest.approx(0.2)
    assert flava.asked == 50  # train and test are the same here
    assert task(tmp_path)(flava) == first and flava.asked == 50  # type: ignore[arg-type]
    task(tmp_path, count=45)(flava)  # type: ignore[arg-type]
    assert flava.asked == 95
    drawn = task(tmp_path)
    assert drawn.about == ""
    drawn.test[0].about = "split drawn by classes"
    assert drawn.about == "split drawn by classes"
    other = Reading(2.0)
    task(tmp_path)(other)  # type: ignore[arg-type]
    assert other.asked == 50
    for kept in tmp_path.iterdir():
        kept.write_bytes(b"damaged")
    assert task(tmp_path)(flava) == first and flava.asked == 145  # type: ignore[arg-type]
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("label", [-1, 1.5, "red", True])
def test_a_label_that_is_no_class_is_named(label: object) -> None:
    with pytest.raises(ValueError, match="sample 0: label 'label' is"):
        task(None, label)(Reading())  # type: ignore[arg-type]


def test_mean_per_class_stands_beside_its_level() -> None:
    figures = probe(clouds(90, 4), clouds(60, 5), metric="mean_per_class")
    assert figures["mean_per_class_majority"] == pytest.approx(1 / 3)
    assert 0.5 < figures["mean_per_class"] <= 1
    assert (figures["classes"], figures["train"], figures["test"]) == (3, 90, 60)


def test_one_sample_of_other_pixels_is_read_anew(tmp_path: Path) -> None:
    flava, probed = Reading(), task(tmp_path)
    probed(flava)  # type: ignore[arg-type]
    samples = probed.train[0].samples
    samples[17] = Sample(numbered(400 + 17), extra=samples[17].extra)
    probed(flava)  # type: ignore[arg-type]
    assert flava.asked == 100


def test_lambda_is_chosen_on_the_published_part(monkeypatch: pytest.MonkeyPatch) -> None:
    train, given = clouds(60, 6), []
    validation = np.arange(60) % 7 == 3

    def choose(kept: object, left: object, *rest: object, **options: object) -> object:
        given.extend((kept, left))
        return choose_and_fit(kept, left, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(linear_probe, "choose_and_fit", choose)
    figures = probe(train, clouds(30, 7), validation=validation)
    for rows, chosen in zip(given, (~validation, validation), strict=True):
        assert (rows[0] == train[0][chosen]).all() and (rows[1] == train[1][chosen]).all()
    assert figures["train"] == 60  # fitted to both in the end
    alone = np.arange(3)
    with pytest.raises(ValueError, match="3 rows, each of another class, leave none to choose"):
        probe((train[0][:3], alone), (train[0][:3], alone))
