"""Twenty steps on each source of PMD: from its published layout, and packed into shards."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_run import lines, write_recipe

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.data.wordpiece import train_vocab
from flava_plugin.recipe import load_recipe
from flava_plugin.train.loop import train
from tests.unit.published_trees import TREES, Tree, imagenet

STEPS = 20


@pytest.fixture(params=sorted(TREES))
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Tree]:
    return request.param, TREES[request.param](tmp_path / "tree")


def test_twenty_steps_from_the_layout(tree: tuple[str, Tree], tmp_path: Path) -> None:
    name, (options, pairs) = tree
    dataset = {"type": name, **{key: str(value) for key, value in options.items()}}
    held = trained(tmp_path, dataset, [text for _, text in pairs])
    assert held["samples"] == len(pairs) == held["coverage"]["samples"]
    assert pairs_of(dataset) == expected(tmp_path / "tree", pairs)


def test_twenty_steps_from_shards_of_it(
    tree: tuple[str, Tree], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, (options, pairs) = tree
    shards = tmp_path / "shards"
    words = [f"{key}={value}" for key, value in options.items()]
    command = ["data", "pack", name, *words, "--out", str(shards), "--samples-per-shard", "4"]
    assert main(command) == 0, capsys.readouterr().err
    dataset = {"type": "webdataset_pairs", "path": str(shards)}
    held = trained(tmp_path, dataset, [text for _, text in pairs])
    assert held["samples"] == len(pairs)
    assert pairs_of(dataset) == expected(tmp_path / "tree", pairs)


def expected(tree: Path, pairs: list[tuple[str, str]]) -> Counter[tuple[bytes, str]]:
    """Each picture's file, which no other picture has, with its own caption."""
    files = {path.stem: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    stems = {stem for stem, _ in pairs}
    assert len({files[stem] for stem in stems}) == len(stems), "a swap could not be seen"
    return Counter((files[stem], text) for stem, text in pairs)


def pairs_of(dataset: dict[str, str]) -> Counter[tuple[bytes, str]]:
    """What a training with these options reads."""
    options = {key: value for key, value in dataset.items() if key != "type"}
    built: Any = registry.datasets.build(dataset["type"], **options)
    raws = [built.read_raw(index) for index in range(len(built))]
    return Counter((raw.image, raw.text) for raw in raws)


def test_all_of_flavas_data_together(tmp_path: Path) -> None:
    """PMD's nine sources joined, one of them as shards; ImageNet; packed text."""
    made = {name: make(tmp_path / name) for name, make in TREES.items()}
    sources = {
        name: {"type": name, **{key: str(value) for key, value in options.items()}}
        for name, (options, _) in made.items()
    }
    words = [f"{key}={value}" for key, value in made["redcaps"][0].items()]
    assert main(["data", "pack", "redcaps", *words, "--out", str(tmp_path / "shards")]) == 0
    sources["redcaps"] = {"type": "webdataset_pairs", "path": str(tmp_path / "shards")}
    texts = [text for _, pairs in made.values() for _, text in pairs]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "books.txt").write_text("\n".join(texts), "utf-8")
    vocab = write_vocab(tmp_path, texts)
    text_files = {"type": "text_files", "path": str(tmp_path / "text"), "tokens": 32}
    recipe = load_recipe(
        str(write_recipe(tmp_path, steps=STEPS)),
        [
            f"data.sources.pairs.dataset={json.dumps({'type': 'pmd', 'sources': sources})}",
            "data.sources.images.dataset="
            + json.dumps({"type": "imagenet", "path": str(imagenet(tmp_path / "imagenet"))}),
            f"data.sources.sentences.dataset={json.dumps({**text_files, 'vocab': str(vocab)})}",
            f"data.tokenizer.vocab={vocab}",
        ],
    )
    train(recipe)
    rows = lines(tmp_path / "run")
    assert len(rows) == STEPS and {row["kind"] for row in rows} == {"pair", "image", "text"}
    said = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))
    assert said["bad_samples"] == {}
    held = said["sources"]["pairs"]
    assert held["samples"] == len(texts)
    assert {name: facts["pairs"] for name, facts in held["coverage"].items()} == {
        name: len(pairs) for name, (_, pairs) in made.items()
    }
    assert held["coverage"]["redcaps"]["paper_pairs"] == 11_600_000


def write_vocab(folder: Path, texts: list[str]) -> Path:
    path = folder / "vocab.txt"
    path.write_text("\n".join(train_vocab(texts, 400)) + "\n", "utf-8")
    return path


def trained(folder: Path, dataset: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """Train on pairs alone; give what ``data.json`` says of them."""
    vocab = write_vocab(folder, texts)
    path = write_recipe(folder, steps=STEPS)
    recipe = load_recipe(
        str(path),
        [
            *(f"objectives.{name}=null" for name in ("mim", "mlm")),
            *(f"data.sources.{name}=null" for name in ("images", "sentences")),
            f"data.sources.pairs.dataset={json.dumps(dataset)}",
            f"data.tokenizer.vocab={vocab}",
            f"checkpoint.every={STEPS}",
        ],
    )
    train(recipe)
    rows = lines(folder / "run")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row in rows:
        losses = [row[name] for name in ("mmm_image", "mmm_text", "itm", "contrastive")]
        assert all(math.isfinite(float(str(loss))) for loss in losses)
    said = json.loads((folder / "run" / "data.json").read_text("utf-8"))
    assert said["bad_samples"] == {}
    held: dict[str, Any] = said["sources"]["pairs"]
    return held
