"""A detector of an outside package is fine-tuned end to end, without a change in ours."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from object_files import ACME, TWO, flava, install, write_objects
from safetensors.torch import load_file

RECIPE = str(ACME / "objects.yaml")
PRETRAINING = ("pretrain/shapes", "steps=16", "data.workers=0", "threads=1", "seed=5")
STEPS = 80
SHORT = ("steps=4", "checkpoint.every=2", "data.global_batch=8", "init.run=pretrained")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, a pretrained run, data and a fine-tuned run."""
    folder = tmp_path_factory.mktemp("objects")
    install(folder)
    write_objects(folder / "objects", train=320, dev=64)
    run(folder, "train", *PRETRAINING, "run_dir=pretrained")
    changes = ("run_dir=run", "init.run=pretrained", f"steps={STEPS}", "checkpoint.every=80")
    run(folder, "train", RECIPE, *changes, "optim.lr=4e-3")
    return folder


@pytest.fixture(scope="module")
def short(place: Path) -> Path:
    run(place, "train", RECIPE, *SHORT, "run_dir=short")
    return place / "short"


def run(place: Path, *words: str, launcher: tuple[str, ...] = ()) -> str:
    done = flava(place / "site", place, *words, launcher=launcher)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [row["things"] for row in rows(folder) if "things" in row]


def test_it_learns_to_find_things_and_the_report_shows_them(place: Path) -> None:
    found = losses(place / "run")
    assert len(found) == STEPS and all(map(math.isfinite, found))
    assert sum(found[-10:]) < 0.5 * sum(found[:10])
    assert "num_classes: 6" in (place / "run" / "recipe.yaml").read_text()
    table = run(place, "eval", "run")
    figures = json.loads((place / "run" / "results.json").read_text())["things"]
    assert figures["pictures"] == 64
    assert figures["map50"] > figures["map50_chance"] + 0.25, figures
    assert f"{figures['map50']:.3f}" in table
    page = (place / "run" / "report.html").read_text()
    assert "Things found" in page and page.count("data:image/png") >= 8


def test_frozen_parts_stay_and_the_others_move(place: Path) -> None:
    before, after = (
        load_file(next((place / name / "checkpoints").glob(f"*{step}/model.safetensors")))
        for name, step in (("pretrained", 16), ("run", STEPS))
    )
    moved = {
        name.split(".")[1]
        for name, value in after.items()
        if name in before and not value.equal(before[name])
    }
    assert "image_encoder" in moved
    assert not moved & {"text_encoder", "mm_encoder"}


def test_a_resumed_run_is_the_same_bit_for_bit(place: Path, short: Path) -> None:
    shutil.copytree(short, place / "resumed")
    last = next((place / "resumed" / "checkpoints").glob("*4"))
    expected = load_file(last / "model.safetensors")
    shutil.rmtree(last)
    run(place, "train", RECIPE, *SHORT, "run_dir=resumed")
    again = load_file(last / "model.safetensors")
    assert all(again[name].equal(value) for name, value in expected.items())
    assert losses(place / "resumed") == losses(short)


def test_two_ranks_train_as_one(place: Path, short: Path) -> None:
    changes = ("run_dir=two", "sharding.strategy=ddp", "device=cpu")
    run(place, "train", RECIPE, *SHORT, *changes, launcher=TWO)
    assert losses(place / "two") == pytest.approx(losses(short), abs=1e-5)


def test_bad_options_are_refused_in_a_line_each(place: Path) -> None:
    changes = {
        "objectives.things.head.hiden=3": "did you mean 'hidden'",
        "objectives.things.loss.box_weight=-1": "greater than or equal to 0",
        "evaluate.tasks.things.overlap=2": "less than or equal to 1",
        "data.sources.train.dataset.most=0": "greater than 0",
    }
    done = flava(place / "site", place, "train", RECIPE, *SHORT, "run_dir=nowhere", *changes)
    assert done.returncode == 2, done.stderr
    for change, said in changes.items():
        name = change.partition("=")[0]
        assert any(name in line and said in line for line in done.stderr.splitlines()), done.stderr
    assert not (place / "nowhere").exists()


def test_pictures_are_not_moved_away_from_their_boxes(place: Path) -> None:
    changes = (*SHORT, "run_dir=cropped", "data.image.crop=[0.5,1.0]")
    done = flava(place / "site", place, "train", RECIPE, *changes)
    assert done.returncode == 2, done.stderr
    assert "data.sources.train are places in whole pictures" in done.stderr
