from __future__ import annotations

import math

import pytest
import torch
from tiny_flava import pair_batch, text_batch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from flava_plugin.components.losses import (
    GlobalContrastive,
    MaskedCrossEntropy,
    matching_ce,
)
from flava_plugin.types import Batch, MaskedPrediction

BATCH = text_batch()


def prediction(rows: int) -> tuple[nn.Linear, MaskedPrediction]:
    generator = torch.Generator().manual_seed(0)
    decode = nn.Linear(8, 30)
    hidden = torch.randn(rows, 8, generator=generator, requires_grad=True)
    labels = torch.randint(30, (rows,), generator=generator)
    return decode, MaskedPrediction(hidden, labels, decode)


@pytest.mark.parametrize("chunk", [1, 4, 10, 100])
def test_chunks_change_neither_loss_nor_gradient(chunk: int) -> None:
    decode, whole = prediction(10)
    expected = F.cross_entropy(decode(whole.hidden), whole.labels, reduction="none")
    gradients = torch.autograd.grad(expected.sum(), [whole.hidden, *decode.parameters()])
    found = MaskedCrossEntropy(target="words", chunk=chunk)(whole, BATCH)
    torch.testing.assert_close(found, expected)
    own = torch.autograd.grad(found.sum(), [whole.hidden, *decode.parameters()])
    for gradient, other in zip(gradients, own, strict=True):
        torch.testing.assert_close(gradient, other)


def test_logits_never_stand_whole() -> None:
    largest = 0

    class Watch(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            nonlocal largest
            largest = max(largest, len(hidden))
            return hidden

    _, whole = prediction(10)
    watched = MaskedPrediction(whole.hidden, whole.labels % 8, Watch())
    MaskedCrossEntropy(target="words", chunk=4)(watched, BATCH).sum().backward()
    assert largest == 4


def test_no_masked_position_gives_an_exact_zero_with_gradients() -> None:
    decode, whole = prediction(0)
    loss = MaskedCrossEntropy(target="words")(whole, BATCH).sum()
    loss.backward()
    assert float(loss) == 0
    assert decode.weight.grad is not None and not decode.weight.grad.any()


def test_masked_ce_counts_from_the_batch() -> None:
    batch = pair_batch(rows=6, negatives=2)
    assert batch.word_labels is not None and batch.patch_mask is not None
    words = MaskedCrossEntropy(target="words").count(batch)
    assert int(words) == int((batch.word_labels[2:] >= 0).sum())
    patches = MaskedCrossEntropy(target="patches").count(batch)
    assert int(patches) == int(batch.patch_mask[2:].sum())
    with pytest.raises(ValueError, match="a text batch has no patch_mask"):
        MaskedCrossEntropy(target="patches").count(BATCH)


def test_losses_stay_fp32_under_autocast() -> None:
    _, whole = prediction(10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert MaskedCrossEntropy(target="words")(whole, BATCH).dtype == torch.float32
        logits = torch.zeros(4, 2, dtype=torch.bfloat16)
        assert matching_ce()(logits, pair_batch()).dtype == torch.float32


def test_matching_ce_reads_matched() -> None:
    batch = pair_batch(rows=3, negatives=1)
    logits = torch.tensor([[5.0, -5.0], [5.0, -5.0], [-5.0, 5.0]])  # apart, apart, together
    losses = matching_ce()(logits, batch)
    assert losses.shape == (3,)
    assert losses[0] < 0.01 and losses[1] > 9 and losses[2] < 0.01
    with pytest.raises(ValueError, match="modality: pair"):
        matching_ce()(logits, BATCH)


def test_contrastive_starts_at_the_usual_scale() -> None:
    assert float(GlobalContrastive().logit_scale.detach()) == pytest.approx(math.log(1 / 0.07))
    assert float(GlobalContrastive(init_scale=0.0).logit_scale.detach()) == 0


def embeddings(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, rows, 8, generator=generator).requires_grad_().unbind(0)


def test_contrastive_drops_rows_of_negatives_and_keeps_their_columns() -> None:
    batch, loss = pair_batch(rows=6, negatives=2), GlobalContrastive()
    image, text = embeddings(6)
    found = loss((image, text), batch)
    logits = loss.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    labels = torch.arange(6)
    rows = F.cross_entropy(logits, labels, reduction="none")
    columns = F.cross_entropy(logits.T, labels, reduction="none")
    torch.testing.assert_close(found, ((rows + columns) / 2)[2:])
    assert int(loss.count(batch)) == 4


def test_contrastive_in_pieces_equals_the_whole() -> None:
    batch, loss = pair_batch(rows=6, negatives=1), GlobalContrastive()
    image, text = (F.normalize(side, dim=-1) for side in embeddings(6))
    assert batch.positives is not None
    whole = loss.rows(image, text, image, text, 0, batch.positives)
    pieces = [
        loss.rows(image[s], text[s], image, text, s.start, batch.positives[s])
        for s in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat(pieces), whole)


def test_contrastive_without_positives_is_an_exact_zero() -> None:
    batch, loss = pair_batch(positives="none"), GlobalContrastive()
    image, text = embeddings(4)
    total = loss((image, text), batch).sum()
    total.backward()
    assert float(total) == 0 and float(loss.logit_scale.grad) == 0
    assert int(loss.count(batch)) == 0


def test_contrastive_of_one_pair_is_zero() -> None:
    assert float(GlobalContrastive()(embeddings(1), pair_batch(rows=1)).sum()) == 0


def test_contrastive_logits_are_fp32_under_autocast() -> None:
    loss, pairs = GlobalContrastive(), embeddings(4)
    exact = loss(pairs, pair_batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(pairs, pair_batch()), exact)


def test_label_smoothing_is_torch_s_over_the_rows_of_the_global_batch() -> None:
    loss = GlobalContrastive(init_scale=0.0, label_smoothing=0.1)
    dice = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(5, 4, generator=dice), dim=-1) for _ in range(2))
    batch = Batch("pair", image=image)
    logits, labels = image @ text.T, torch.arange(5)
    both = [F.cross_entropy(x, labels, label_smoothing=0.1) for x in (logits, logits.T)]
    assert torch.allclose(loss((image, text), batch).mean(), sum(both) / 2, atol=1e-6)
