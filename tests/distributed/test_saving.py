"""A save that fails on one rank ends all of them, and the checkpoint before it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import ranks


@pytest.mark.parametrize(
    ("case", "fails"),
    [
        ("full_disk_of_first", ("full", "sharded")),
        ("full_disk_of_last", ("sharded",)),  # whole tensors are written by rank 0 alone
        ("lost_claim", ("full", "sharded")),
    ],
)
def test_a_save_that_fails_on_one_rank_ends_all(
    case: str, fails: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_RUNS", str(tmp_path / "runs"))
    for found in ranks.run(f"saving_cases.{case}", 3, tmp_path):
        for form, (step, raised) in found.items():
            assert bool(raised) == (form in fails), form
            assert step == (3 if form in fails else 4), form
    logs = [(tmp_path / f"log_{rank}").read_text() for rank in range(3)]
    assert sum("another rank could not save step 4" in log for log in logs) == 2
