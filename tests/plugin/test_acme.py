"""A real outside package is installed, listed, checked and trained with."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from object_files import ACME, flava, install


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("acme"))


def test_it_is_listed(installed: Path, tmp_path: Path) -> None:
    done = flava(installed, tmp_path, "ls", "heads")
    line = next(line for line in done.stdout.splitlines() if "vqa_answers" in line)
    assert "acme-flava 0.1" in line
    assert "Scores every answer from the multimodal [CLS]." in line


def test_its_options_are_shown(installed: Path, tmp_path: Path) -> None:
    done = flava(installed, tmp_path, "show", "vqa_answers")
    assert done.returncode == 0, done.stderr
    assert "num_answers: int" in done.stdout.replace("Annotated[int", "int")
    assert "Number of answers A." in done.stdout


def test_its_options_are_checked(installed: Path, tmp_path: Path) -> None:
    change = "objectives.answers.head.num_answer=3"
    done = flava(installed, tmp_path, "train", str(ACME / "answers.yaml"), change)
    assert done.returncode == 2, done.stderr
    assert "did you mean 'num_answers'" in done.stderr


def test_it_trains(installed: Path, tmp_path: Path) -> None:
    done = flava(installed, tmp_path, "train", str(ACME / "answers.yaml"), "run_dir=run")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    losses = [line["answers"] for line in map(json.loads, written) if "answers" in line]
    assert len(losses) == 3
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert losses[-1] != losses[0]


def test_without_it_the_recipe_says_what_is_missing(tmp_path: Path) -> None:
    done = flava(tmp_path, tmp_path, "train", str(ACME / "answers.yaml"))
    assert done.returncode == 2, done.stderr
    for name in ("vqa_answers", "soft_bce", "colour_questions"):
        assert f"named '{name}'" in done.stderr
