import numpy as np
import pytest
import torch
from evaluate_doubles import Knowing, Listed, numbered
from torch import Tensor
from torch.nn.functional import normalize

from flava_plugin.evaluate.retrieval import Retrieval, ranks, recall
from flava_plugin.types import Sample


def embeddings(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, width, generator=generator, dtype=torch.float64), dim=-1)


def reference_ranks(
    queries: Tensor, items: Tensor, query_groups: Tensor, item_groups: Tensor
) -> list[int]:
    """Sort by score, one query at a time."""
    scores = (queries @ items.T).numpy()
    found = []
    for row, group in zip(scores, query_groups.tolist(), strict=True):
        order = np.argsort(-row)
        right = item_groups.numpy()[order] == group
        # wrong items before the first right one, which is what the others do not push down
        found.append(1 + int(np.argmax(right)) if right.any() else len(order) + 1)
    return found


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_ranks_equal_sorting_when_pairs_are_one_to_one(chunk: int) -> None:
    images = embeddings(60, 8, 1)
    texts = normalize(images + 0.4 * embeddings(60, 8, 2), dim=-1)
    groups = torch.arange(60)
    found = ranks(images, texts, groups, groups, chunk=chunk)
    assert found.tolist() == reference_ranks(images, texts, groups, groups)


@pytest.mark.parametrize("chunk", [5, 1024])
def test_ranks_equal_sorting_when_a_picture_has_several_captions(chunk: int) -> None:
    images = embeddings(20, 6, 3)
    text_groups = torch.arange(20).repeat_interleave(5)[torch.randperm(100)]
    texts = normalize(images[text_groups] + 0.8 * embeddings(100, 6, 4), dim=-1)
    groups = torch.arange(20)
    to_text = ranks(images, texts, groups, text_groups, chunk=chunk)
    to_image = ranks(texts, images, text_groups, groups, chunk=chunk)
    assert to_text.tolist() == reference_ranks(images, texts, groups, text_groups)
    assert to_image.tolist() == reference_ranks(texts, images, text_groups, groups)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_equals_torchmetrics(k: int) -> None:
    metrics = pytest.importorskip("torchmetrics.retrieval", reason="pip install '.[dev]'")
    images = embeddings(40, 6, 5)
    texts = normalize(images + 0.7 * embeddings(40, 6, 6), dim=-1)
    groups = torch.arange(40)
    hit_rate = metrics.RetrievalHitRate(top_k=k)
    scores = images @ texts.T
    target = torch.eye(40, dtype=torch.bool)
    hit_rate.update(scores.flatten(), target.flatten(), groups.repeat_interleave(40))
    assert recall(ranks(images, texts, groups, groups), k) == pytest.approx(
        float(hit_rate.compute())
    )


def test_a_model_that_embeds_everything_alike_finds_nothing() -> None:
    same = embeddings(1, 8, 7).float().expand(30, 8)
    groups = torch.arange(30)
    assert ranks(same, same, groups, groups, chunk=4).tolist() == [30] * 30


def test_embeddings_that_are_not_numbers_find_nothing() -> None:
    images, texts = embeddings(9, 4, 8), embeddings(9, 4, 8)
    texts[3] = torch.nan
    groups = torch.arange(9)
    found = ranks(images, texts, groups, groups)
    assert found[3] == 9
    assert found[0] == 2  # the broken text stands before every right one


def test_a_query_without_a_right_item_ranks_behind_all() -> None:
    images = embeddings(4, 4, 9)
    assert ranks(images[:1], images, torch.tensor([99]), torch.arange(4)).tolist() == [5]


def pairs(numbers: list[int], **extra: list[int]) -> Listed:
    rows = [
        Sample(numbered(n), f"number {n}", extra={k: v[i] for k, v in extra.items()})
        for i, n in enumerate(numbers)
    ]
    return Listed(rows)


def test_figures_count_the_pictures_that_lead_astray() -> None:
    flava = Knowing(wrong=[3, 4, 5, 6, 7])
    figures = Retrieval(pairs(list(range(20))), None, True, None)(flava)  # type: ignore[arg-type]
    assert figures["image_to_text_r1"] == figures["text_to_image_r1"] == pytest.approx(15 / 20)
    assert figures["gallery_size"] == 20
    assert set(figures) == {"gallery_size"} | {
        f"{side}_r{k}" for side in ("image_to_text", "text_to_image") for k in (1, 5, 10)
    }


def test_pairs_with_a_caption_that_was_there_are_passed_over() -> None:
    task = Retrieval(pairs([0, 1, 1, 2, 0, 3, 4]), 4, True, None)
    gallery = task.encode(Knowing())  # type: ignore[arg-type]
    assert gallery.image_rows == gallery.text_rows == [0, 1, 3, 5]


def test_a_picture_with_several_captions_is_encoded_once() -> None:
    flava = Knowing(batch_size=2)
    dataset = pairs([5, 5, 5, 6, 6, 7, 5], picture=[5, 5, 5, 6, 6, 7, 5])
    gallery = Retrieval(dataset, 2, False, "picture").encode(flava)  # type: ignore[arg-type]
    assert flava.encoded_images == 2
    assert gallery.image_rows == [0, 3]
    assert gallery.text_rows == [0, 1, 2, 3, 4, 6]
    assert gallery.text_groups.tolist() == [0, 0, 0, 1, 1, 0]


def test_gallery_shows_the_right_picture_first_to_a_model_that_knows() -> None:
    (exhibit,) = Retrieval(pairs(list(range(9))), None, True, None).exhibits(Knowing())  # type: ignore[arg-type]
    assert len(exhibit.rows) == 8
    assert all(
        [cell.right for cell in row[1:]] == [True, None, None, None, None] for row in exhibit.rows
    )
