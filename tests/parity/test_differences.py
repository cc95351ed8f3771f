"""The table of differences in this folder's README: its keys and its tests are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flava_plugin.recipe import load_recipe

HERE = Path(__file__).resolve().parent
LINES = [line for line in (HERE / "README.md").read_text("utf-8").splitlines() if line[:1] == "|"]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES[2:]]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_difference_is_a_choice_or_settled(row: list[str]) -> None:
    *_, choice, _ = row
    keys = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", choice)
    assert keys or choice.startswith("settled: ")
    for key in keys:
        place: Any = load_recipe("pretrain/flava_released", check_files=False).model_dump()
        for part in key.split("."):
            assert part in place, key
            place = place[part]


def test_every_test_it_names_is_there() -> None:
    text = "".join(path.read_text("utf-8") for path in HERE.parent.rglob("test_*.py"))
    for row in ROWS:
        names = re.findall(r"`(test_\w+)`", row[-1])
        assert names, row[0]
        assert all(f"def {name}(" in text for name in names), row[-1]
