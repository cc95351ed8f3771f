import random
from statistics import mean

import numpy as np
import pytest
from torchmultimodal.transforms.flava_transform import ImageMaskingGenerator

from flava_plugin.data.masking import blockwise_patches, mask_words, random_patches
from flava_plugin.data.randomness import generator
from flava_plugin.types import IGNORE

SPECIAL = frozenset(range(5))


def hide(ids, words=(), share=0.15, whole_words=False, number=0):
    return mask_words(
        ids,
        SPECIAL,
        words,
        share=share,
        whole_words=whole_words,
        mask_id=4,
        vocab_size=20,
        generator=generator(0, "words", (number,)),
    )


def test_words_are_hidden_as_in_bert():
    ids = [2, *([7] * 100), 3]
    kinds = {"masked": 0, "kept": 0, "random": 0}
    for number in range(500):
        masked, labels = hide(ids, number=number)
        chosen = labels != IGNORE
        assert chosen.sum() == 15
        assert (labels[chosen] == 7).all()
        assert (masked[~chosen] == np.array(ids)[~chosen]).all()
        kinds["masked"] += int((masked[chosen] == 4).sum())
        kinds["kept"] += int((masked[chosen] == 7).sum())
        kinds["random"] += int(((masked[chosen] != 4) & (masked[chosen] != 7)).sum())
    assert abs(kinds["masked"] / 7500 - 0.8) < 0.02
    # one in 15 random tokens is the token itself
    assert abs(kinds["kept"] / 7500 - (0.1 + 0.1 / 15)) < 0.015
    assert abs(kinds["random"] / 7500 - 0.1 * 14 / 15) < 0.015


def test_special_tokens_are_never_chosen_and_never_drawn():
    seen = set()
    for number in range(3000):
        masked, labels = hide([2, 0, 9, 3, 0], share=1.0, number=number)
        assert labels.tolist() == [IGNORE, IGNORE, 9, IGNORE, IGNORE]
        seen.add(int(masked[2]))
    assert seen == {4, *range(5, 20)}


def test_at_least_one_token_is_hidden_where_there_is_any():
    assert (hide([2, 9, 3], share=0.01)[1] != IGNORE).sum() == 1
    assert (hide([2, 3], share=0.5)[1] != IGNORE).sum() == 0
    assert (hide([2, 9, 3], share=0.0)[1] != IGNORE).sum() == 0


def test_whole_words_are_hidden_with_all_their_pieces():
    ids = [2, *range(5, 17), 3]
    words = [-1, 0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 6, 6, -2]
    counts = set()
    for number in range(300):
        _, labels = hide(ids, words, share=0.25, whole_words=True, number=number)
        chosen = {words[place] for place in np.flatnonzero(labels != IGNORE)}
        covered = [place for place, word in enumerate(words) if word in chosen]
        assert covered == np.flatnonzero(labels != IGNORE).tolist()
        counts.add(len(covered))
    assert counts == {3}


def test_a_word_longer_than_the_share_is_hidden_if_it_is_the_first():
    _, labels = hide([2, 5, 6, 7, 3], [9, 0, 0, 0, 9], whole_words=True)
    assert (labels != IGNORE).sum() == 3


@pytest.mark.parametrize(
    ("side_h", "side_w", "count", "smallest", "largest"),
    [
        (14, 14, 75, 16, None),
        (6, 6, 14, 4, None),
        (4, 4, 6, 16, None),
        (3, 9, 27, 2, 5),
        (1, 1, 1, 1, None),
        (14, 14, 75, 16, 20),
    ],
)
def test_exactly_so_many_patches_are_hidden(side_h, side_w, count, smallest, largest):
    masks = [
        blockwise_patches(side_h, side_w, count, smallest, largest, generator(0, "p", (n,)))
        for n in range(50)
    ]
    assert {mask.shape for mask in masks} == {(side_h * side_w,)}
    assert {int(mask.sum()) for mask in masks} == {count}


def test_blocks_are_those_of_torchmultimodal():
    """Same share of patches hidden, by place and by how many neighbours are hidden with them."""

    def together(mask):
        return mean([(mask[1:] & mask[:-1]).mean(), (mask[:, 1:] & mask[:, :-1]).mean()])

    ours = [
        blockwise_patches(14, 14, 75, 16, None, generator(0, "p", (n,))).reshape(14, 14)
        for n in range(400)
    ]
    random.seed(0)
    upstream = ImageMaskingGenerator(14, num_masking_patches=75, min_num_patches=16)
    theirs = [upstream().astype(bool) for _ in range(400)]
    assert abs(mean(map(np.mean, ours)) - mean(map(np.mean, theirs))) < 0.01
    assert abs(mean(map(together, ours)) - mean(map(together, theirs))) < 0.01
    assert np.abs(np.mean(ours, axis=0) - np.mean(theirs, axis=0)).max() < 0.15
    assert np.abs(np.mean(ours, axis=(0, 1)) - np.mean(theirs, axis=(0, 1))).max() < 0.04


def test_random_patches_are_uniform():
    masks = [random_patches(4, 5, 6, generator(0, "p", (n,))) for n in range(3000)]
    assert {int(mask.sum()) for mask in masks} == {6}
    assert np.abs(np.mean(masks, axis=0) - 0.3).max() < 0.04


def test_more_patches_than_there_are_are_refused():
    for hide_patches in (
        lambda: blockwise_patches(3, 3, 10, 1, None, generator(0, "p", (0,))),
        lambda: random_patches(3, 3, 10, generator(0, "p", (0,))),
    ):
        with pytest.raises(ValueError, match="patch_count: 10 .* at most 9"):
            hide_patches()


def test_global_generators_are_left_alone():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[2]  # noqa: NPY002
    blockwise_patches(6, 6, 14, 4, None, generator(0, "p", (0,)))
    hide([2, 9, 9, 9, 3])
    assert before == (random.getstate(), np.random.get_state()[2])  # noqa: NPY002
