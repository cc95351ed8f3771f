from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_flava import CODES, WIDTH, WORDS, image_batch, pair_batch, text_batch, tiny_learner

from flava_plugin.components.heads import Classifier, PairMatch, PatchTokens, WordTokens
from flava_plugin.components.pair_heads import PairComparison
from flava_plugin.types import IGNORE, Features, Widths

WIDTHS = Widths(image=8, text=10, fused=12, projection=6, words=WORDS, codes=CODES, patches=16)


def numbered(rows: int, positions: int, width: int) -> torch.Tensor:
    """States that say where they stand: row * 1000 + position."""
    place = torch.arange(rows)[:, None] * 1000 + torch.arange(positions)
    return place[..., None].expand(rows, positions, width).float()


@pytest.mark.parametrize(("reads", "first", "width"), [("text", 0, 10), ("fused", 18, 12)])
def test_words_are_read_where_they_stand(reads: str, first: int, width: int) -> None:
    batch = text_batch() if reads == "text" else pair_batch()
    assert batch.word_labels is not None
    rows, length = batch.word_labels.shape
    field = {"text": "text_masked", "fused": "fused"}[reads]
    head = WordTokens(WIDTHS, reads=reads)
    states = numbered(rows, first + length, width)
    found = head(Features(**{field: states}), batch)
    where = (batch.word_labels != IGNORE).nonzero()
    assert found.hidden[:, 0].tolist() == [int(r) * 1000 + first + int(c) for r, c in where]
    assert torch.equal(found.labels, batch.word_labels[batch.word_labels != IGNORE])
    assert found.decode(found.hidden).shape == (len(where), WORDS)
    assert head.needs == {f"{field}.words"}


@pytest.mark.parametrize(("reads", "first", "width"), [("image", 1, 8), ("fused", 2, 12)])
def test_patches_are_read_where_they_stand(reads: str, first: int, width: int) -> None:
    batch = image_batch() if reads == "image" else pair_batch()
    assert batch.patch_mask is not None
    codes = torch.arange(4 * 16).view(4, 16) % CODES
    batch = replace(batch, codes=codes)
    field = {"image": "image_masked", "fused": "fused"}[reads]
    head = PatchTokens(WIDTHS, reads=reads)
    found = head(Features(**{field: numbered(4, first + 16 + 12, width)}), batch)
    where = batch.patch_mask.nonzero()
    assert found.hidden[:, 0].tolist() == [int(r) * 1000 + first + int(c) for r, c in where]
    assert torch.equal(found.labels, codes[batch.patch_mask])
    assert found.decode(found.hidden).shape == (len(where), CODES)


def test_only_counted_rows_are_predicted() -> None:
    batch = pair_batch(rows=5, negatives=2)
    features = Features(fused=numbered(5, 18 + 12, 12))
    found = WordTokens(WIDTHS, reads="fused")(features, batch)
    assert (found.hidden[:, 0] >= 2000).all()


def test_a_codebook_of_another_grid_is_refused() -> None:
    batch = replace(image_batch(), codes=torch.zeros(4, 9, dtype=torch.long))
    features = Features(image_masked=numbered(4, 17, 8))
    with pytest.raises(ValueError, match="9 codes for an image of 16 patches; set .*codebook_size"):
        PatchTokens(WIDTHS, reads="image")(features, batch)


def test_pair_match_reads_the_multimodal_class_token() -> None:
    head, states = PairMatch(WIDTHS), torch.randn(3, 9, 12)
    logits = head(Features(fused=states), pair_batch(3))
    states = states.clone()
    states[:, 1:] = 0
    assert logits.shape == (3, 2)
    assert torch.equal(logits, head(Features(fused=states), pair_batch(3)))


@pytest.mark.parametrize("reads", ["image", "text", "fused"])
@pytest.mark.parametrize("hidden", [None, 7])
def test_classifier_reads_what_it_says(reads: str, hidden: int | None) -> None:
    head = Classifier(WIDTHS, num_classes=5, reads=reads, hidden=hidden)
    width = getattr(WIDTHS, reads)
    assert head.needs == {f"{reads}.cls"}
    assert head(Features(**{reads: torch.randn(3, 4, width)}), pair_batch(3)).shape == (3, 5)


@pytest.mark.parametrize("objective", ["mim", "mlm", "mmm_image", "mmm_text"])
def test_masked_heads_predict_nothing_where_nothing_is_masked(objective: str) -> None:
    learner = tiny_learner()
    modality = learner.modalities[objective]
    make = {"image": image_batch, "text": text_batch, "pair": pair_batch}[modality]
    _, found = learner.predict(make(masked=0.0), [objective])
    assert found[objective].hidden.shape == (0, WIDTH)


def compared() -> Features:
    generator = torch.Generator().manual_seed(0)
    return Features(
        fused=torch.randn(4, 3, 12, generator=generator),
        image_projected=torch.randn(4, 6, generator=generator),
        text_projected=torch.randn(4, 6, generator=generator),
    )


def test_comparison_sees_what_the_embeddings_say_of_each_other_and_not_their_length() -> None:
    head = PairComparison(WIDTHS, num_classes=3, hidden=5)
    features = compared()
    assert head(features, pair_batch()).shape == (4, 3)
    assert features.image_projected is not None and features.text_projected is not None
    longer = replace(features, image_projected=7 * features.image_projected)
    torch.testing.assert_close(head(longer, pair_batch()), head(features, pair_batch()))
    turned = replace(features, text_projected=features.text_projected.flip(0))
    assert not torch.allclose(head(turned, pair_batch()), head(features, pair_batch()))
    assert head.needs == {"fused.cls", "image_projected", "text_projected"}


def test_comparison_of_equal_embeddings_is_their_square_and_no_difference() -> None:
    head = PairComparison(WIDTHS, num_classes=2, hidden=5)
    seen = []
    head.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    features = compared()
    head(replace(features, text_projected=features.image_projected), pair_batch())
    cls, u, v, product, difference = seen[0].split([12, 6, 6, 6, 6], dim=1)
    assert features.fused is not None
    assert torch.equal(cls, features.fused[:, 0])
    torch.testing.assert_close(u.norm(dim=1), torch.full((4,), 6**0.5))
    torch.testing.assert_close(product, u * u)
    assert torch.equal(u, v) and not difference.any()


def test_comparison_needs_to_know_its_classes() -> None:
    with pytest.raises(ValueError, match="num_classes is null"):
        PairComparison(WIDTHS)
