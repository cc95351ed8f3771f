"""A tiny source in each layout, as words for ``flava data``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
