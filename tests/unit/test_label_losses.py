"""Losses against labels, beside what torch computes and against labels that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin import registry
from flava_plugin.components.label_losses import (
    BinaryCrossEntropy,
    ClassCrossEntropy,
    SoftCrossEntropy,
    SquaredError,
)
from flava_plugin.types import Batch


def batch(label: Tensor) -> Batch:
    return Batch("text", text=torch.zeros(len(label), 3, dtype=torch.long), extra={"it": label})


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 1.0, -2.0], [0.2, 0.1, 0.0]])
CLASSES = torch.tensor([0, 1, 2, 1])
SHARES = torch.tensor([[1.0, 0, 0], [0, 0.6, 0.3], [0, 0, 0], [1.0, 0.3, 0.9]])


def test_class_ce_is_torchs() -> None:
    found = ClassCrossEntropy(target="it")(LOGITS, batch(CLASSES))
    torch.testing.assert_close(found, F.cross_entropy(LOGITS, CLASSES, reduction="none"))
    smooth = ClassCrossEntropy(target="it", smoothing=0.1)(LOGITS, batch(CLASSES))
    logs = LOGITS.log_softmax(1)
    by_hand = -(0.9 * logs[torch.arange(4), CLASSES] + 0.1 * logs.mean(1))
    torch.testing.assert_close(smooth, by_hand)


def test_soft_ce_of_whole_shares_is_class_ce_and_of_none_is_nothing() -> None:
    loss = SoftCrossEntropy(target="it")
    whole = loss(LOGITS, batch(F.one_hot(CLASSES, 3)))
    torch.testing.assert_close(whole, F.cross_entropy(LOGITS, CLASSES, reduction="none"))
    found = loss(LOGITS, batch(SHARES))
    assert found[2] == 0
    logs = LOGITS.log_softmax(1)
    torch.testing.assert_close(found[1], -(0.6 * logs[1, 1] + 0.3 * logs[1, 2]))


def test_bce_sums_over_classes() -> None:
    found = BinaryCrossEntropy(target="it")(LOGITS, batch(SHARES))
    chance = LOGITS.sigmoid()
    by_hand = -(SHARES * chance.log() + (1 - SHARES) * (1 - chance).log()).sum(1)
    torch.testing.assert_close(found, by_hand)
    # MMF's logit_bce: the mean over rows and classes, times the number of classes
    mmf = F.binary_cross_entropy_with_logits(LOGITS, SHARES) * 3
    torch.testing.assert_close(found.mean(), mmf)
    one = BinaryCrossEntropy(target="it")(LOGITS[:, :1], batch(torch.tensor([1, 0, 0, 1])))
    assert one.shape == (4,)


def test_mse_divides_the_label() -> None:
    found = SquaredError(target="it", scale=5.0)(
        torch.tensor([[0.5], [1.0]]), batch(torch.tensor([2.5, 4.0]))
    )
    torch.testing.assert_close(found, torch.tensor([0.0, 0.04]))


@pytest.mark.parametrize(
    ("name", "label", "told"),
    [
        ("class_ce", torch.tensor([0, 1, 7, 2]), "row 2 of the batch has it = 7.*classes 0 to 2"),
        ("class_ce", torch.tensor([0, 1, 1, -1]), "row 3 of the batch has it = -1"),
        ("class_ce", torch.tensor([0.5, 1, 1, 1]), "take loss soft_ce or bce .* mse"),
        ("class_ce", SHARES, "not a class number"),
        ("soft_ce", SHARES[:, :2], "gives 3 logits; set num_classes"),
        ("soft_ce", -SHARES, "row 0 of the batch has a 'it' outside of 0 to 1"),
        ("bce", SHARES * 2, "bce: row 0 of the batch"),
        ("bce", SHARES * float("nan"), "bce: row 0 of the batch"),
        ("bce", CLASSES, "set num_classes"),
        ("mse", torch.ones(4), "the head gives 3 numbers"),
    ],
)
def test_a_label_that_does_not_fit_is_named(name: str, label: Tensor, told: str) -> None:
    loss = registry.losses.build(name, target="it")
    with pytest.raises(ValueError, match=told):
        loss(LOGITS, batch(label))


@pytest.mark.parametrize("name", ["class_ce", "soft_ce", "bce", "mse"])
def test_a_missing_label_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*no label 'that'; its labels: it"):
        registry.losses.build(name, target="that")(LOGITS, batch(CLASSES))


def test_class_ce_looks_at_labels_when_rows_are_counted() -> None:
    """Which the training step does on the CPU, before a GPU has the batch."""
    loss = ClassCrossEntropy(target="it")
    loss(LOGITS, batch(CLASSES))  # from here on it knows the classes
    with pytest.raises(ValueError, match="row 0 of the batch has it = 3"):
        loss.count(batch(CLASSES + 3))
    assert int(loss.count(batch(CLASSES))) == 4


def test_a_number_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="row 1 of the batch has it = nan"):
        SquaredError(target="it")(torch.ones(2, 1), batch(torch.tensor([1.0, float("nan")])))
