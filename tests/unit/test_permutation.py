import subprocess
import sys
import tracemalloc
from math import factorial, sqrt

import numpy as np
import pytest

from flava_plugin.data.permutation import permute
from flava_plugin.data.randomness import generator, key_of, uniform
from flava_plugin.types import Key


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 16, 97, 1000, 4099])
def test_every_place_is_reached_exactly_once(length):
    for epoch in range(5):
        found = permute(np.arange(length), length, key_of(3, "order", "s", epoch)[0])
        assert sorted(found) == list(range(length))


def test_a_place_does_not_depend_on_what_is_asked_with_it():
    key = key_of(0, "order", "s", 0)[0]
    whole = permute(np.arange(1001), 1001, key)
    some = np.array([[4, 1000], [7, 7]])
    assert (permute(some, 1001, key) == whole[some]).all()


def test_a_key_per_place_equals_one_key_at_a_time():
    keys = np.array([key_of(0, "k", epoch)[0] for epoch in range(6)])
    together = permute(np.arange(3)[None, :], 11, keys[:, None])
    apart = [permute(np.arange(3), 11, key) for key in keys]
    assert (together == np.array(apart)).all()


def test_billions_of_places_need_no_memory():
    tracemalloc.start()
    found = permute(np.arange(8192) + 10**9, 1_800_000_000, key_of(1, "o")[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6, "bytes; a table of all places would take gigabytes"
    assert len(set(found)) == 8192
    assert found.min() >= 0
    assert found.max() < 1_800_000_000
    # spread over the whole range, neighbours far apart as in a uniform shuffle (mean n / 3)
    assert 0.31 < np.abs(np.diff(found)).mean() / 1_800_000_000 < 0.36


@pytest.mark.parametrize("length", [3, 4, 5, 6])
def test_all_orders_of_a_tiny_set_are_equally_likely(length):
    runs = 20_000
    keys = np.random.default_rng(0).integers(0, 2**63, (runs, 1)).astype(np.uint64)
    found = permute(np.arange(length)[None, :], length, keys)
    _, counts = np.unique(found @ length ** np.arange(length), return_counts=True)
    orders = factorial(length)
    assert len(counts) == orders
    chi_square = ((counts - runs / orders) ** 2).sum() / (runs / orders)
    assert chi_square < orders + 4 * sqrt(2 * orders)


def test_places_outside_are_refused():
    with pytest.raises(ValueError, match=r"range\(5\)"):
        permute(np.array([5]), 5, np.uint64(1))
    with pytest.raises(ValueError, match="not 0"):
        permute(np.array([0]), 0, np.uint64(1))


def test_uniform_is_uniform():
    drawn = uniform(key_of(0, "itm")[0], np.arange(100_000))
    assert abs(drawn.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02
    assert drawn.min() >= 0
    assert drawn.max() < 1


def test_generators_differ_by_purpose_and_key_and_not_by_process():
    code = (
        "from flava_plugin.data.randomness import generator; from flava_plugin.types import Key;"
        "print(generator(5, 'crop', Key('s', 1, 2)).random(3).tolist())"
    )
    here = generator(5, "crop", Key("s", 1, 2)).random(3).tolist()
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        )
        assert there.stdout.strip() == str(here)
    others = [("crop", Key("s", 2, 1)), ("words", Key("s", 1, 2)), ("crop", Key("t", 1, 2))]
    draws = {generator(5, purpose, key).random() for purpose, key in others}
    assert len(draws | {here[0]}) == 4
