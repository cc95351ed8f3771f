import numpy as np
import pytest
import torch

from flava_plugin.data import collate as collating
from flava_plugin.data.collate import UnequalRowsError, pixel_scale, split
from flava_plugin.data.transforms import Item
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import IGNORE


def collate(items, modality, **options):
    return collating.collate(items, modality, pixels=pixel_scale(ImageSection()), **options)


def item(length=3, matched=True, **extra):
    ids = np.arange(5, 5 + length)
    return Item(
        image=np.zeros((3, 4, 4), dtype=np.uint8),
        codebook_image=np.ones((3, 2, 2), dtype=np.uint8),
        patch_mask=np.array([True, False]),
        text=ids,
        text_masked=ids + 1,
        word_labels=np.full(length, 9),
        matched=matched,
        extra=extra,
    )


def test_texts_are_padded_to_the_longest():
    batch = collate([item(3), item(5)], "pair", pad_id=7)
    assert batch.text.tolist() == [[5, 6, 7, 7, 7], [5, 6, 7, 8, 9]]
    assert batch.text_masked.tolist() == [[6, 7, 8, 7, 7], [6, 7, 8, 9, 10]]
    assert batch.text_padding.tolist() == [[True, True, True, False, False], [True] * 5]
    assert batch.word_labels.tolist() == [[9, 9, 9, IGNORE, IGNORE], [9] * 5]
    assert (batch.text.dtype, batch.word_labels.dtype) == (torch.int64, torch.int64)
    assert batch.text_padding.dtype == batch.patch_mask.dtype == torch.bool
    assert len(batch) == 2


def test_pairs_say_which_rows_match_and_which_count():
    rows = [item(), item(matched=False)]
    batch = collate(rows, "pair", pad_id=0)
    assert batch.matched.tolist() == batch.positives.tolist() == [True, False]
    batch = collate(rows, "pair", pad_id=0, count_all=True)
    assert batch.matched.tolist() == [True, False]
    assert batch.positives.tolist() == [True, True]


def test_other_modalities_hold_nothing_of_pairs():
    image = np.zeros((3, 4, 4), dtype=np.uint8)
    batch = collate([Item(image=image)], "image", pad_id=0, count_all=True)
    assert batch.image.shape == (1, 3, 4, 4)
    assert batch.text is batch.text_padding is batch.matched is batch.positives is None
    batch = collate([Item(text=np.array([1, 2]))], "text", pad_id=0)
    assert batch.image is batch.patch_mask is batch.text_masked is batch.word_labels is None
    assert batch.text_padding.tolist() == [[True, True]]


def test_a_batch_cut_equals_its_parts_collated_alone():
    rows = [item(length, matched=length > 3, label=length) for length in (3, 5, 2, 4, 4)]
    parts = split(collate(rows, "pair", pad_id=7), 2)
    assert [len(part) for part in parts] == [2, 2, 1]
    for start, part in zip((0, 2, 4), parts, strict=True):
        alone = collate(rows[start : start + 2], "pair", pad_id=7)
        for name, value in vars(alone).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(getattr(part, name), value), name
                assert getattr(part, name).is_contiguous()
        assert torch.equal(part.extra["label"], alone.extra["label"])
    image = np.zeros((3, 4, 4), dtype=np.uint8)
    assert len(split(collate([Item(image=image)] * 3, "image", pad_id=0), 2)) == 2


def test_numeric_labels_are_stacked_and_strings_left_out():
    rows = [item(label=n, score=n / 2, truth=True, parts=[n, 0.5], name="x") for n in range(3)]
    extra = collate(rows, "pair", pad_id=0).extra
    assert set(extra) == {"label", "score", "truth", "parts"}
    assert extra["label"].tolist() == [0, 1, 2]
    assert extra["label"].dtype == extra["truth"].dtype == torch.int64
    assert extra["score"].dtype == torch.float32
    assert extra["parts"].shape == (3, 2)


def test_rows_that_disagree_are_refused():
    with pytest.raises(ValueError, match="label 'a' is missing in 1 of 2 rows"):
        collate([item(a=1), item()], "pair", pad_id=0)
    for one, other in ((1, [1, 0]), ([1], [1, 2]), (1, "a"), ("a", 1), ([0.5], 0.5)):
        with pytest.raises(
            UnequalRowsError, match=r"label 'a' is .* in one row and .* in another"
        ) as told:
            collate([item(a=one), item(a=one), item(a=other)], "pair", pad_id=0)
        assert told.value.rows == (0, 2) and repr(other) in str(told.value)
    for wrong in (None, {"x": 1}, [[1], [1, 2]]):
        with pytest.raises(
            UnequalRowsError, match="it must be a number, a list of them or a string"
        ):
            collate([item(a=1), item(a=wrong)], "pair", pad_id=0)
    with pytest.raises(ValueError, match="1 of 2 rows have no image"):
        collate([item(), Item(text=np.array([1]))], "pair", pad_id=0)
    with pytest.raises(ValueError, match="at least one row"):
        collate([], "pair", pad_id=0)
