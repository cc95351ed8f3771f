"""Every published layout is packed, and its shards say what the layout said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flava_plugin.cli.main import main
from tests.unit.layout_words import KINDS, words_of
from tests.unit.published_trees import TREES


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, out = words_of(kind, tmp_path / "in"), tmp_path / "out"
    assert main(["data", "pack", *words, "--out", str(out), "--samples-per-shard", "3"]) == 0
    about = json.loads((out / "pack.json").read_text("utf-8"))
    there, here = (result(capsys, words), result(capsys, [str(out)]))
    assert there["samples"] > 1 and about["result"]["left_out"] == {}
    for figure in ("samples", "content", "kind", "formats", "damage"):
        assert there[figure] == here[figure]
    if kind in TREES:
        assert about["coverage"]["samples"] == there["samples"]
    if kind == "imagenet":
        assert about["class_names"] == ["n01440764", "n02084071", "n03000684"]


def result(capsys: pytest.CaptureFixture[str], words: list[str]) -> Any:
    capsys.readouterr()
    assert main(["data", "check", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)[0]
