import tracemalloc
from collections import Counter

import pytest

from flava_plugin.data.arrangement import Everything
from flava_plugin.data.order import Order
from flava_plugin.sections_data import MatchingSection


def make(length=10, global_batch=4, seed=0, **matching):
    return Order(
        "s", Everything("s", length, seed), seed, MatchingSection(**matching), global_batch
    )


@pytest.mark.parametrize(("length", "global_batch"), [(10, 4), (7, 7), (3, 8), (1, 2), (12, 5)])
def test_every_epoch_holds_every_sample_exactly_once(length, global_batch):
    order = make(length, global_batch)
    rows = [row for n in range(5 * length) for row in order.rows(n)]
    epochs = [[row.key for row in rows[i : i + length]] for i in range(0, len(rows), length)]
    assert len(epochs) == 5 * global_batch
    for number, epoch in enumerate(epochs):
        assert {key.epoch for key in epoch} == {number}
        assert sorted(key.index for key in epoch) == list(range(length))


def test_epochs_are_shuffled_differently():
    order = make(length=50, global_batch=50)
    orders = {tuple(row.key.index for row in order.rows(n)) for n in range(5)}
    assert len(orders) == 5


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_take_every_so_manieth_row(size):
    order = make(length=100, global_batch=32, negatives=0.5, hard=0.5)
    whole = order.rows(3)
    for rank in range(size):
        assert order.rows(3, rank, size) == whole[rank::size]


def test_negatives_come_at_their_share_with_distinct_others_of_the_batch():
    order = make(length=10_000, global_batch=1000, negatives=0.3, hard=0.5, tries=5)
    negatives = hard = 0
    for n in range(10):
        rows = order.rows(n)
        keys = {row.key for row in rows}
        for row in rows:
            if not row.negative:
                assert row.candidates == ()
                assert not row.hard
                continue
            negatives += 1
            hard += row.hard
            assert len(set(row.candidates)) == 5
            assert row.key not in row.candidates
            assert set(row.candidates) <= keys
    assert abs(negatives / 10_000 - 0.3) < 0.02
    assert abs(hard / negatives - 0.5) < 0.04


def test_candidates_are_spread_over_the_batch():
    order = make(length=8, global_batch=8, negatives=1.0, tries=1)
    distances = Counter()
    for n in range(300):
        rows = order.rows(n)
        places = {row.key: place for place, row in enumerate(rows)}
        distances.update((places[row.candidates[0]] - place) % 8 for place, row in enumerate(rows))
    assert set(distances) == set(range(1, 8))
    assert max(distances.values()) < 1.4 * min(distances.values())


def test_tries_stop_at_the_other_rows():
    assert all(len(row.candidates) == 3 for row in make(negatives=1.0, tries=100).rows(0))
    assert make(global_batch=1, negatives=1.0).rows(0)[0].candidates == ()


def test_a_source_without_matching_has_no_negatives():
    order = Order("s", Everything("s", 10, 0), 0, None, 4)
    assert not any(row.negative or row.candidates for row in order.rows(0))


def test_all_rows_count_only_where_the_recipe_says_so_and_none_matches():
    assert make(negatives=1.0, no_positives="all").counts_all(0)
    assert not make(negatives=1.0, no_positives="skip").counts_all(0)
    order = make(global_batch=2, negatives=0.5, no_positives="all")
    said = [order.counts_all(n) for n in range(200)]
    assert said == [all(row.negative for row in order.rows(n)) for n in range(200)]
    assert 20 < sum(said) < 80


def test_a_batch_of_billions_is_ordered_without_a_table():
    order = Order("s", Everything("s", 1_800_000_000, 0), 0, MatchingSection(), 8192)
    tracemalloc.start()
    whole = order.rows(10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(whole) == 8192 and peak < 1e8, "bytes; a table of all places would take gigabytes"
    assert order.rows(10**6, 3, 64) == whole[3::64]
