"""Recall with five captions a picture against torchmetrics, and COCO's size in bounded memory."""

import time

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from flava_plugin.evaluate.retrieval import ranks, recall

CAPTIONS = 5


def drawn(pictures: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(pictures)
    images = normalize(torch.randn(pictures, width, generator=dice), dim=-1)
    owner = torch.arange(pictures).repeat_interleave(CAPTIONS)
    noise = torch.randn(len(owner), width, generator=dice) / width**0.5
    return images, normalize(images[owner] + 2 * noise, dim=-1), torch.arange(pictures), owner


@pytest.mark.parametrize("k", [1, 5, 10])
def test_both_directions_equal_the_hit_rate_of_torchmetrics(k: int) -> None:
    metrics = pytest.importorskip("torchmetrics.retrieval", reason="pip install '.[dev]'")
    images, texts, groups, owner = drawn(60, 12)
    right = groups[:, None] == owner[None]
    scores = images @ texts.T
    for ours, values, target in (
        (ranks(images, texts, groups, owner, chunk=17), scores, right),
        (ranks(texts, images, owner, groups, chunk=17), scores.T, right.T),
    ):
        hit_rate = metrics.RetrievalHitRate(top_k=k)
        queries = torch.arange(len(values)).repeat_interleave(values.shape[1])
        hit_rate.update(values.flatten(), target.flatten(), queries)
        expected = float(hit_rate.compute())
        assert expected > 0 and recall(ours, k) == pytest.approx(expected)


def test_five_thousand_pictures_and_their_captions_take_seconds() -> None:
    images, texts, groups, owner = drawn(5000, 64)
    started = time.monotonic()
    found = ranks(images, texts, groups, owner), ranks(texts, images, owner, groups)
    assert [len(each) for each in found] == [5000, 25000]
    assert time.monotonic() - started < 60  # measured: 5.6 s on a busy core
    assert 0.1 < recall(found[1], 10) < 1
