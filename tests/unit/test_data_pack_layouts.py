"""Every published layout is packed, and its shards say what the layout said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flava_plugin.cli.main import main
from tests.unit import published_trees
from tests.unit.picture_trees import captioned
from tests.unit.published_trees import TREES

KINDS = [*TREES, "imagenet", "parquet", "save_to_disk", "text_files", "manifest_pairs"]


def words_of(kind: str, folder: Path) -> list[str]:
    if kind in TREES:
        options, _ = TREES[kind](folder)
        return [kind, *(f"{key}={value}" for key, value in options.items())]
    if kind == "imagenet":
        return [kind, f"path={published_trees.imagenet(folder)}"]
    if kind == "text_files":
        folder.mkdir()
        lines = [f"This is sentence {number} of a text. It has two." for number in range(90)]
        (folder / "text.txt").write_text("\n".join(lines), "utf-8")
        return [kind, f"path={folder / 'text.txt'}", "tokens=64"]
    path = captioned(folder, 8)
    if kind == "manifest_pairs":
        return [kind, f"path={path}", "image=image", "caption=caption", f"images={folder}"]
    hugging_face = pytest.importorskip("datasets")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    pictures = [(row["image"], (folder / row["image"]).read_bytes()) for row in rows]
    rows = [
        {"image": {"path": name, "bytes": data}, "text": row["caption"]}
        for row, (name, data) in zip(rows, pictures, strict=True)
    ]
    table = hugging_face.Dataset.from_list(rows).cast_column("image", hugging_face.Image())
    saved = folder / "saved"
    if kind == "parquet":
        saved.mkdir()
        table.to_parquet(saved / "train-00000-of-00001.parquet")
    else:
        table.save_to_disk(str(saved))
    return ["hf_pairs", f"path={saved}"]


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
