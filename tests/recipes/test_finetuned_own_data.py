"""``finetune/classify`` on one's own pictures, by the commands that stand in the recipe itself."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_run import write_recipe
from tuned_trees import picture

import flava_plugin
from flava_plugin.cli.main import main
from flava_plugin.recipe import recipes_folder
from flava_plugin.train import checkpoint
from flava_plugin.types import Sample

sk = pytest.importorskip("sklearn.metrics", reason="pip install '.[dev]'")
pytest.importorskip("torchmetrics", reason="pip install '.[dev]'")

CLASSES = ("circle", "dot", "square")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of other sizes than FLAVA's, and pictures in classes; dev lacks one."""
    folder = tmp_path_factory.mktemp("own")
    small = ["model.image_encoder.image_size=24", "data.image.size=24"]
    small += ["data.image.codebook_size=24", "data.masking.patch_count=4"]
    assert main(["train", str(write_recipe(folder, steps=2)), *small]) == 0
    for split, classes in (("train", CLASSES), ("dev", (CLASSES[0], CLASSES[2]))):
        for number in range(24):
            name = classes[number % len(classes)]
            place = folder / "my" / split / name / f"{number}.png"
            picture(place, CLASSES.index(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def said(line: str) -> list[list[str]]:
    """The commands of the recipe's header: the whole one, and the further changes of a table."""
    text = (recipes_folder() / "finetune/classify.yaml").read_text("utf-8")
    commands = [row[4:] for row in text.splitlines() if row.startswith("#   ")]
    joined = (
        "\n".join(commands).replace("\\\n", " ").replace(" RUN", " run").replace("=RUN", "=run")
    )
    for old, new in (("FILE", "file_name"), ("KIND", "what_it_is")):
        joined = joined.replace(old, new)
    return [shlex.split(command) for command in joined.splitlines() if line in command]


SMALL = (
    *("steps=200", "evaluate.every=10", "evaluate.patience=2", "data.global_batch=12"),
    *("data.workers=0", "optim.lr=0.01", "optim.warmup_steps=3", "optim.ema=0.8", "threads=1"),
)


def tuned(run: str, *changes: str) -> list[dict[str, Any]]:
    """Train by the header's command and changes to it; what was measured meanwhile."""
    ((program, *command),) = said("finetune/classify")
    assert program == "flava"
    assert main([*command, *SMALL, f"run_dir={run}", *changes]) == 0
    path = Path(run, "evaluations.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def accuracy(flava: Any, rows: list[tuple[Path, str]]) -> float:
    samples = [Sample(Image.open(path).convert("RGB")) for path, _ in rows]
    guessed = flava.predict("what", flava.batch(samples, "image")).argmax(1).tolist()
    return float(sk.accuracy_score([CLASSES.index(name) for _, name in rows], guessed))


def pictures(folder: Path, split: str) -> list[tuple[Path, str]]:
    found = sorted((folder / "my" / split).glob("*/*.png"))
    return [(path, path.parent.name) for path in found]


def test_a_folder_with_every_key_that_fine_tuning_has(own: Path) -> None:
    during = tuned("folder", "freeze=['image_encoder.embeddings']")
    # patience: it ended when two evaluations in a row were no better, and kept the best
    values = [line["held_out.accuracy"] for line in during]
    best = values.index(max(values))
    assert len(values) == best + 3 < 20, values
    last = checkpoint.find(Path("folder"))
    assert last.step == 10 * len(values)
    assert checkpoint.find(Path("folder"), "best").step == 10 * (best + 1)
    rows = pictures(own, "dev")
    for which, value in (("latest", values[-1]), ("best", max(values))):
        flava = flava_plugin.load("folder", which)
        assert accuracy(flava, rows) == pytest.approx(value)
    assert max(values) > 0.8, "and it has learnt, by the numbers of train's classes"
    # the average is another than the weights; what is frozen stayed, and the rest did not
    raw, average = last.model(), last.model("ema")
    name = "heads.what.classifier.model.0.weight"
    assert raw[name].shape == (len(CLASSES), 16) and not torch.equal(raw[name], average[name])
    for key, value in checkpoint.find(Path("run")).model().items():
        idle = "pooler" in key or key.endswith("key.bias")  # no logit depends on these
        if key.startswith("backbone.image_encoder.") and not idle:
            assert torch.equal(raw[key], value) == ("embeddings" in key), key


def test_a_rate_of_its_own_for_every_layer(own: Path) -> None:
    """Adam's first step is the rate, where nothing warms up, is clipped or decays."""
    changes = ("steps=1", "evaluate.every=1", "optim.warmup_steps=0", "optim.weight_decay=0")
    tuned("layers", *changes, "optim.layer_decay=0.5", "optim.clip_norm=null")
    before, after = (checkpoint.find(Path(name)).model() for name in ("run", "layers"))
    parts = {"embeddings.": 0.0025, "encoder.layer.0.": 0.005, "layernorm.": 0.01}
    for part, rate in parts.items():
        names = [key for key in before if f"image_encoder.{part}" in key and "weight" in key]
        steps = [float((after[key] - before[key]).abs().max()) for key in names]
        assert steps == pytest.approx([rate] * len(steps), rel=0.01) and steps, part


def rows_of(folder: Path, split: str) -> list[dict[str, str]]:
    return [
        {"what_it_is": name, "file_name": str(path.relative_to(folder / "my")), "by": "a, b"}
        for path, name in pictures(folder, split)
    ]


def test_a_table_with_columns_of_any_name(own: Path) -> None:
    (changes,) = said("labelled_table")
    for split in ("train", "dev"):
        rows = rows_of(own, split)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (own / "my" / f"{split}.jsonl").write_text(text)
    during = tuned("lines", *changes)
    value = accuracy(flava_plugin.load("lines"), pictures(own, "dev"))
    assert value == pytest.approx(during[-1]["held_out.accuracy"]) and value > 0.8
    # one CSV with a column that says the split gives the same run
    with (own / "my" / "all.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["by", "part", "what_it_is", "file_name"])
        writer.writeheader()
        for split in ("train", "dev"):
            writer.writerows({**row, "part": split} for row in rows_of(own, split))
    one = [each.replace("path: my,", "path: my/all.csv, split_column: part,") for each in changes]
    assert tuned("csv", *one) == during
