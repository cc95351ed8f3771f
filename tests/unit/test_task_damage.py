"""The same damage to each set of pairs: a picture gone, a split without rows, no picture at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from published_trees import write_json
from task_trees import json_lines, karpathy, memes, snli_ve, vqa

from flava_plugin import datasets


class Tree(NamedTuple):
    """A published tree, what builds its dataset, and how it is emptied."""

    write: Callable[[Path], Any]
    options: dict[str, Any]
    pictures: str
    empty: Callable[[Path], Any]


def no_pictures_listed(folder: Path) -> Path:
    return write_json(folder / "dataset_flickr30k.json", {"images": [], "dataset": "f"})


def no_questions(folder: Path) -> Path:
    path = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    return write_json(path, {"questions": []})


TREES = {
    "vqav2": Tree(vqa, {"split": "val", "seen": 1}, "val2014", no_questions),
    "snli_ve": Tree(
        snli_ve,
        {"split": "dev"},
        "flickr30k-images",
        lambda folder: json_lines(folder / "snli_ve_dev.jsonl", []),
    ),
    "hateful_memes": Tree(
        memes, {"split": "dev"}, "img", lambda folder: json_lines(folder / "dev_seen.jsonl", [])
    ),
    "karpathy_retrieval": Tree(karpathy, {"split": "test"}, "flickr30k-images", no_pictures_listed),
}


def build(name: str, folder: Path) -> Any:
    return datasets.build(name, path=folder, **TREES[name].options)


@pytest.mark.parametrize("name", TREES)
def test_a_picture_that_is_gone_is_counted_and_the_others_stay(name: str, tmp_path: Path) -> None:
    tree = TREES[name]
    tree.write(tmp_path)
    whole = build(name, tmp_path)
    shown = {whole.read(row).image.tobytes() for row in range(len(whole))}
    assert len(shown) > 1
    pictures = sorted(path for path in (tmp_path / tree.pictures).rglob("*") if path.is_file())
    # of those this split shows: without the file there is one picture less to see
    for path in pictures:
        kept = path.read_bytes()
        path.unlink()
        less = build(name, tmp_path)
        gone = less.coverage["dropped"].get("no picture", 0)
        assert len(less) + gone == len(whole)
        assert {less.read(row).image.tobytes() for row in range(len(less))} <= shown
        if gone:
            assert path.stem in str(less.coverage["examples"]["no picture"])
            break
        path.write_bytes(kept)
    else:
        pytest.fail("no row was left out, whichever picture was gone")


@pytest.mark.parametrize("name", TREES)
def test_a_split_without_rows_is_refused_by_name(name: str, tmp_path: Path) -> None:
    TREES[name].write(tmp_path)
    TREES[name].empty(tmp_path)
    with pytest.raises(ValueError, match="no row is left: it is empty|holds no captions"):
        build(name, tmp_path)


@pytest.mark.parametrize("name", TREES)
def test_no_picture_at_all_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    TREES[name].write(tmp_path)
    for path in (tmp_path / TREES[name].pictures).rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(ValueError) as refused:
        build(name, tmp_path)
    assert "no picture" in str(refused.value), refused.value
    assert json.dumps(str(tmp_path))[1:-1] in str(refused.value)
