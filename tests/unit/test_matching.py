import pytest
from evaluate_doubles import Knowing, Listed, numbered

from flava_plugin.evaluate.matching import Matching
from flava_plugin.types import Sample


def pairs(count: int, near: bool = True) -> Listed:
    rows = [
        Sample(numbered(n), f"number {n}", negative_text=f"close {n + 400}" if near else None)
        for n in range(count)
    ]
    return Listed(rows)


def test_half_of_the_pairs_match_and_half_of_the_rest_are_near_misses() -> None:
    trials = list(Matching(pairs(40), None, True, "itm", 0.5).trials())
    assert len(trials) == 80
    assert sum(trial.matched for trial in trials) == 40
    assert sum(trial.hard for trial in trials) == 20
    for trial in trials:
        text = trial.sample.text or ""
        assert trial.hard == text.startswith("close")
        assert trial.matched == (text == f"number {trial.key.index}")


def test_every_picture_comes_with_a_right_and_a_wrong_caption() -> None:
    trials = list(Matching(pairs(10), None, True, "itm", 0.5).trials())
    assert [t.key.index for t in trials[::2]] == [t.key.index for t in trials[1::2]]
    assert [t.matched for t in trials] == [True, False] * 10


def test_an_equal_caption_of_another_picture_is_no_negative() -> None:
    rows = [Sample(numbered(n), f"number {n // 3}") for n in range(9)]
    for trial in Matching(Listed(rows), None, True, "itm", 0.5).trials():
        own = f"number {trial.key.index // 3}"
        assert (trial.sample.text == own) == trial.matched


def test_other_captions_are_used_where_there_are_no_near_misses() -> None:
    trials = list(Matching(pairs(6, near=False), None, True, "itm", 0.5).trials())
    assert not any(trial.hard for trial in trials)
    assert len(trials) == 12


def test_a_model_that_knows_is_right_and_one_that_does_not_is_at_the_majority() -> None:
    figures = Matching(pairs(20), None, True, "itm", 0.5)(Knowing())  # type: ignore[arg-type]
    assert figures["accuracy"] == figures["near_misses"] == figures["other_captions"] == 1
    assert figures["majority"] == 0.5
    assert figures["pairs"] == 40


def test_a_dataset_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair of picture and caption"):
        Matching(Listed([Sample(text="alone")]), None, True, "itm", 0.5)(Knowing())  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "matched"), [(0.5, 1.0), (0.7, 1.0), (0.95, 0.0)])
def test_odds_are_corrected_for_the_share_of_matches_in_training(
    share: float, matched: float
) -> None:
    # the double's odds are e^1 for a match and e^-1 for none; log(0.95 / 0.05) = 2.9
    figures = Matching(pairs(20), None, True, "itm", share)(Knowing())  # type: ignore[arg-type]
    assert figures["matched_pairs"] == matched
    assert figures["near_misses"] == 1
    assert figures["uncorrected"] == 1
