"""A balance report of two processes, which meet and part again for every run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from test_evaluation import ROOT, Together
from test_runs import STILL

sys.path.append(str(ROOT / "tests/recipes"))
from test_balance_study import TASKS  # noqa: E402
from tiny_run import lines, write_recipe  # noqa: E402

from flava_plugin.cli.main import main  # noqa: E402

LOSSES = ("mim", "mlm", "mmm_image", "mmm_text", "itm", "contrastive")


def test_two_processes_report_what_one_does(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, evaluate=TASKS)
    asked = [str(recipe), *STILL, "--seeds", "1", "--folder"]
    assert main(["balance", *asked, str(tmp_path / "one")]) == 0
    words = [*asked, str(tmp_path / "two"), "sharding.strategy=ddp"]
    two = Together(tmp_path, 2, *words, verb="balance")
    assert two.codes == [0, 0], two.said(0) + two.said(1)
    assert "less alone" in two.said(0) and "less alone" not in two.said(1)
    for name in ("joint-3", "image-3", "text-3", "pair-3"):
        found = json.loads((tmp_path / "two" / f"{name}.json").read_text())["results"]
        assert {"find", "fill", "itm"} & found.keys()
        own, other = (lines(tmp_path / folder / name) for folder in ("two", "one"))
        for mine, theirs in zip(own, other, strict=True):
            assert mine["step"] == theirs["step"]
            for loss in mine.keys() & set(LOSSES):
                assert mine[loss] == pytest.approx(theirs[loss], abs=1e-4)
    again = Together(tmp_path, 2, *words, verb="balance")
    assert again.codes == [0, 0] and "steps done" not in again.said(0)
