import pytest

from flava_plugin.data.mixture import quotas, source_at, steps_before


@pytest.mark.parametrize(
    ("shares", "block"),
    [
        ({"a": 0.25, "b": 0.25, "c": 0.5}, {"a": 1, "b": 1, "c": 2}),
        ({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 1}),
        ({"a": 0.7, "b": 0.2, "c": 0.1}, {"a": 7, "b": 2, "c": 1}),
        ({"a": 3.0}, {"a": 1}),
        ({"a": 2, "b": 0}, {"a": 1, "b": 0}),
        ({"a": 0.999, "b": 0.001}, {"a": 999, "b": 1}),
    ],
)
def test_the_shortest_block_is_found(shares, block):
    assert quotas(shares) == block


def test_shares_that_fit_no_block_are_rounded_to_thousandths():
    block = quotas({"a": 2**0.5, "b": 3**0.5, "c": 5**0.5})
    assert sum(block.values()) == 1000
    total = 2**0.5 + 3**0.5 + 5**0.5
    for name, share in {"a": 2**0.5, "b": 3**0.5, "c": 5**0.5}.items():
        assert abs(block[name] - 1000 * share / total) < 1


def test_quotas_are_exact_and_counts_equal_a_replay():
    shares = {"pairs": 0.5, "texts": 0.3, "images": 0.2}
    seen = dict.fromkeys(shares, 0)
    for step in range(1000):
        for name in shares:
            assert steps_before(step, name, shares, 7) == seen[name]
        seen[source_at(step, shares, 7)] += 1
        if (step + 1) % 10 == 0:
            assert [seen[name] * 10 for name in shares] == [
                5 * (step + 1),
                3 * (step + 1),
                2 * (step + 1),
            ]


def test_the_order_of_names_does_not_matter_and_the_seed_does():
    forward, backward = {"a": 0.3, "b": 0.7}, {"b": 0.7, "a": 0.3}
    first = [source_at(step, forward, 1) for step in range(100)]
    assert first == [source_at(step, backward, 1) for step in range(100)]
    assert first != [source_at(step, forward, 2) for step in range(100)]
    assert first[:10] != first[10:20] or first[10:20] != first[20:30]


def test_a_far_step_is_computed_directly():
    shares = {"a": 0.25, "b": 0.75}
    # step by step this would not end while anybody waits
    assert steps_before(4 * 10**9, "a", shares, 0) == 10**9
    assert source_at(4 * 10**9, shares, 0) in shares


def test_a_share_without_a_step_is_refused_by_name():
    with pytest.raises(ValueError, match=r"data\.sources\.rare\.share: 0\.0001 .*at least 0\.0010"):
        source_at(0, {"rare": 0.0001, "common": 1.0}, 0)


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}, {"a": float("nan")}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="positive share"):
        source_at(0, shares, 0)
