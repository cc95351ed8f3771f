"""Streams of shards: every sample once an epoch, in an order that any place of tells by itself."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from flava_plugin.data.arrangement import Everything, Streams
from flava_plugin.data.order import Order
from flava_plugin.data.ordering import footprint
from flava_plugin.sections_data import MatchingSection


def streams(lengths, seed=0, streams=4, window=5):
    return Streams("s", np.array(lengths), seed, streams=streams, window=window)


CASES = [
    ([10], 4, 5),
    ([3, 0, 7, 1, 1], 4, 2),
    ([1], 8, 3),
    ([13, 5, 9, 30], 1, 7),
    ([4] * 50, 16, 3),
    ([400, 3, 77], 7, 1000),
    ([5000, 2500], 3, 1500),
]


@pytest.mark.parametrize(("lengths", "count", "window"), CASES)
def test_every_sample_comes_once_in_every_epoch(lengths, count, window):
    arrangement = streams(lengths, streams=count, window=window)
    total = sum(lengths)
    for epoch in range(3):
        found = arrangement.indices(epoch, np.arange(total))
        assert sorted(found.tolist()) == list(range(total))


@pytest.mark.parametrize(("lengths", "count", "window"), CASES)
def test_a_place_is_the_same_whatever_else_is_asked_for(lengths, count, window):
    whole = streams(lengths, streams=count, window=window).indices(1, np.arange(sum(lengths)))
    chance = np.random.default_rng(0)
    for _ in range(20):
        places = chance.integers(0, sum(lengths), 5)
        alone = streams(lengths, streams=count, window=window)
        assert alone.indices(1, places).tolist() == whole[places].tolist()


@pytest.mark.parametrize(("lengths", "count", "window"), CASES)
def test_a_window_names_the_shards_that_its_places_read(lengths, count, window):
    arrangement = streams(lengths, streams=count, window=window)
    shard = np.repeat(np.arange(len(lengths)), lengths)
    by_window: dict[tuple[int, int], set[int]] = {}
    for place in range(sum(lengths)):
        (pair,) = arrangement.windows(np.array([place]))
        index = arrangement.indices(2, np.array([place]))[0]
        by_window.setdefault(pair, set()).add(int(shard[index]))
    for (stream, number), shards in by_window.items():
        assert set(arrangement.shards_of(2, stream, number)) == shards
    last = max(number for _, number in by_window)
    assert arrangement.shards_of(2, 0, last + 1) == []


def test_epochs_seeds_and_sources_differ():
    places = np.arange(200)
    orders = {
        tuple(Streams(name, np.full(20, 10), seed, streams=4, window=9).indices(epoch, places))
        for name in ("a", "b")
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 12


def test_a_window_is_shuffled_evenly():
    # 6 samples in one window: each of the 6 places is taken by each sample as often
    counts = np.zeros((6, 6))
    for seed in range(3000):
        found = Streams("s", np.array([6]), seed, streams=1, window=6).indices(0, np.arange(6))
        counts[np.arange(6), found] += 1
    assert abs(counts / 500 - 1).max() < 0.2


def test_a_batch_draws_from_many_shards_and_a_rank_from_few():
    lengths = np.full(1000, 100)
    arrangement = Streams("s", lengths, 0, streams=64, window=100)
    order = Order("s", arrangement, 0, None, 512)
    batch = {row.key.index // 100 for row in order.rows(7)}
    assert len(batch) > 64
    rank = [
        {row.key.index // 100 for n in range(12) for row in order.rows(n, rank, 16)}
        for rank in range(16)
    ]
    # 4 streams, 96 samples of each: at most three shards a stream, and no other rank's
    assert max(map(len, rank)) <= 12
    shared = Counter(shard for shards in rank for shard in shards)
    assert sum(count > 1 for count in shared.values()) <= 64


def test_negatives_take_captions_of_the_same_stream():
    arrangement = Streams("s", np.full(100, 100), 0, streams=8, window=50)
    order = Order("s", arrangement, 0, MatchingSection(negatives=1.0, tries=4), 64)
    rows = order.rows(3)
    place = {row.key: number for number, row in enumerate(rows)}
    for number, row in enumerate(rows):
        assert len(set(row.candidates)) == 4 and row.key not in row.candidates
        assert {place[key] % 8 for key in row.candidates} == {number % 8}


def test_what_will_be_read_soon_is_told_once_and_in_time():
    lengths = np.full(60, 10)
    arrangement = Streams("s", lengths, 0, streams=4, window=10)
    for rank in range(2):
        order = Order("s", arrangement, 0, None, 8)
        told: list[int] = []
        for n in range(150):
            soon = order.shards_soon(n, rank, 2)
            told += soon
            read = {row.key.index // 10 for row in order.rows(n, rank, 2)}
            assert read <= set(told), n
        # two epochs: a shard lies in two streams or windows at most, and is told for each
        assert max(Counter(told).values()) <= 8


def test_billions_of_samples_in_shards_start_at_once():
    counts = np.full(180_000, 10_000)
    tracemalloc.start()
    started = time.process_time()
    order = Order("s", Streams("s", counts, 0, streams=256, window=10_000), 0, None, 8192)
    middle = order.rows(100_000, 3, 64)
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(middle) == 128 and all(0 <= row.key.index < 1_800_000_000 for row in middle)
    assert peak < 100e6 and seconds < 20, "bytes and seconds; a table would take minutes"


def test_everything_is_one_stream():
    arrangement = Everything("s", 10, 0)
    assert arrangement.streams == 1
    assert sorted(arrangement.indices(0, np.arange(10)).tolist()) == list(range(10))


def test_a_rank_is_told_how_much_it_holds():
    order = Order("s", streams([10] * 100, streams=8, window=15), 0, None, 16)
    read = {rank: set() for rank in range(4)}
    for n in range(12):
        for rank in range(4):
            read[rank] |= {row.key.index // 10 for row in order.rows(n, rank, 4)}
    line = footprint(order, Shards(), 4)
    assert line is not None and "1,000 samples in 100 shards, read in 8 streams" in line
    assert line.endswith("a rank needs up to 12 shards at a time, 12.0 GiB")
    assert all(len(shards) <= 12 for shards in read.values())
    assert footprint(Order("s", Everything("s", 9, 0), 0, None, 3), Shards(), 1) is None


class Shards:
    shard_bytes = np.full(100, 2**30)
