"""Length buckets: like lengths together, every sample once, the same for any world size."""

from __future__ import annotations

import numpy as np
import pytest

from flava_plugin.data.ordering import order_of, streams_for
from flava_plugin.data.steps import by_length
from flava_plugin.sections_data import MatchingSection, ShuffleSection, SourceSection


class Texts:
    """Sizes of texts with a natural distribution (log-normal), in shards or not."""

    def __init__(self, length, shards=0):
        self.sizes = np.random.default_rng(0).lognormal(5, 0.6, length).astype(np.int64) + 1
        if shards:
            self.shard_lengths = np.full(shards, length // shards)

    def __len__(self):
        return len(self.sizes)

    def read(self, index, /):
        raise AssertionError("lengths are known without reading")

    def text_sizes(self, indices):
        return self.sizes[indices]


def order(dataset, global_batch=32, modality="text", **shuffle):
    source = SourceSection(
        modality=modality, share=1, dataset={"type": "texts"}, shuffle=ShuffleSection(**shuffle)
    )
    return order_of(
        "s", dataset, source, seed=0, global_batch=global_batch, matching=MatchingSection()
    )


@pytest.mark.parametrize("shards", [0, 10])
@pytest.mark.parametrize("buckets", [1, 3, 8])
def test_every_sample_comes_once_in_a_group_of_whole_epochs(shards, buckets):
    made = order(Texts(320, shards), buckets=buckets, window=16)
    # 24 batches are 2.4 epochs; each group holds what it would hold without buckets
    plain = order(Texts(320, shards), window=16)
    for group in range(24 // buckets):
        numbers = range(group * buckets, (group + 1) * buckets)
        assert sorted(row.key for n in numbers for row in made.rows(n)) == sorted(
            row.key for n in numbers for row in plain.rows(n)
        )


@pytest.mark.parametrize("shards", [0, 10])
@pytest.mark.parametrize("size", [1, 2, 4, 8, 3])
def test_ranks_see_the_same_batch_at_any_step_first(shards, size):
    dataset = Texts(320, shards)
    whole = order(dataset, buckets=4, modality="pair", window=16)
    expected = {n: whole.rows(n) for n in range(12)}
    for n in (11, 0, 5):
        for rank in range(size):
            fresh = order(dataset, buckets=4, modality="pair", window=16)
            assert fresh.rows(n, rank, size) == expected[n][rank::size]


def padding(made, dataset, batches, rows):
    wanted = padded = 0
    for n in range(batches):
        rows_of_rank = by_length(made.rows(n, n % 2, 2), dataset)
        sizes = dataset.sizes[[row.key.index for row in rows_of_rank]]
        for start in range(0, len(sizes), rows):
            part = sizes[start : start + rows]
            wanted += part.sum()
            padded += part.max() * len(part)
    return 1 - wanted / padded


@pytest.mark.parametrize("shards", [0, 100])
def test_little_is_padding(shards):
    dataset = Texts(40_000, shards)
    without = padding(order(dataset, 256), dataset, 64, 32)
    waste = padding(order(dataset, 256, buckets=64), dataset, 64, 32)
    assert without > 0.3 and waste < 0.05


def test_batches_of_a_group_come_in_no_order_of_length():
    dataset = Texts(6400)
    made = order(dataset, 100, buckets=64)
    means = [dataset.sizes[[row.key.index for row in made.rows(n)]].mean() for n in range(64)]
    assert abs(np.corrcoef(np.arange(64), means)[0, 1]) < 0.4


def test_what_cannot_be_had_is_refused():
    class Plain:
        def __len__(self):
            return 3

        def read(self, index, /): ...

    with pytest.raises(ValueError, match=r"data\.sources\.s\.shuffle\.buckets: dataset 'texts'"):
        order(Plain(), buckets=2)
    dataset = Texts(4)
    dataset.sizes = dataset.sizes[:0]
    with pytest.raises(ValueError, match=r"data\.sources\.s\.dataset: it holds no sample"):
        order(dataset)


@pytest.mark.parametrize(
    ("rows", "streams"), [(8192, 256), (4096, 256), (256, 32), (30, 3), (7, 1), (1, 1), (1000, 125)]
)
def test_streams_divide_the_batch(rows, streams):
    assert streams_for(rows) == streams
