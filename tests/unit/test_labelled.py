"""Labelled data of one's own: tables, class trees, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from published_trees import picture
from task_trees import json_lines, table

from flava_plugin import registry


def build(**options: Any) -> Any:
    return registry.datasets.build("labelled_table", **options)


def test_a_table_of_pictures_texts_and_classes(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "p" / f"{number}.jpg", number)
    rows = [
        {"file": f"{n}.jpg", "q": f"what {n}", "ocr": "WORDS", "kind": kind}
        for n, kind in enumerate(["dog", "cat", "dog"])
    ]
    path = json_lines(tmp_path / "t.jsonl", rows)
    options = {"image": "file", "text": "q", "second_text": "ocr", "label": "kind"}
    dataset = build(path=path, images=tmp_path / "p", **options)
    assert dataset.class_names == ("cat", "dog") and dataset.kind == "pair"
    sample = dataset.read(1)
    assert (sample.text, sample.second_text, sample.extra) == ("what 1", "WORDS", {"label": 0})
    assert sample.image.size == (56, 48)
    assert dataset.labels("label").tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_quotes_and_windows_line_ends(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{kind}"
    sep = "," if kind == "csv" else "\t"
    text = '"a, ""b"""' if kind == "csv" else '"a, b'
    lines = [sep.join(["text", "label"]), sep.join([text, "x"]), sep.join(["c", "y"])]
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode())
    dataset = build(path=path, text="text")
    assert dataset.read_text(0) == ('a, "b"' if kind == "csv" else '"a, b')
    assert dataset.class_names == ("x", "y") and len(dataset) == 2
    assert dataset.read(1).extra == {"label": 1} and dataset.kind == "text"


def test_scores_and_several_classes(tmp_path: Path) -> None:
    path = table(tmp_path / "t.tsv", [["t", "s", "m"], ["a", "0.5", "x|z"], ["b", "-2", ""]])
    scores = build(path=path, text="t", label="s", label_kind="number")
    assert [scores.read(n).extra["label"] for n in range(2)] == [0.5, -2.0]
    several = build(path=path, text="t", label="m", label_kind="classes")
    assert several.class_names == ("x", "z")
    assert [several.read(n).extra["label"] for n in range(2)] == [[1.0, 1.0], [0.0, 0.0]]
    lines = json_lines(tmp_path / "t.jsonl", [{"t": "a", "label": ["z", "y"]}])
    listed = build(path=lines, text="t", label_kind="classes")
    assert listed.read(0).extra["label"] == [1.0, 1.0]
    table(tmp_path / "bad.tsv", [["t", "s"], *[["a", "nan"]] * 11])
    with pytest.raises(ValueError, match="11 of 11 lines are broken.*label 'nan' is no number"):
        build(path=tmp_path / "bad.tsv", text="t", label="s", label_kind="number")


def test_classes_are_the_same_in_every_split(tmp_path: Path) -> None:
    table(tmp_path / "train.tsv", [["text", "label"], ["a", "cat"], ["b", "dog"], ["c", "emu"]])
    table(tmp_path / "dev.tsv", [["text", "label"], ["a", "emu"], ["b", "fox"]])
    dev = build(path=tmp_path, text="text", split="dev")
    assert dev.read(0).extra == {"label": 2} and len(dev) == 1
    assert dev.coverage["dropped"] == {"unknown label": 1}
    (tmp_path / "names.txt").write_text("fox\nemu\n", "utf-8")
    named = build(path=tmp_path, text="text", split="dev", classes=tmp_path / "names.txt")
    assert [named.read(n).extra["label"] for n in range(2)] == [1, 0]
    with pytest.raises(ValueError, match="say which of its tables by split:"):
        build(path=tmp_path, text="text")
    with pytest.raises(ValueError, match="has no test.jsonl, test.csv or test.tsv"):
        build(path=tmp_path, text="text", split="test")
    table(tmp_path / "dev.csv", [["text"]])
    with pytest.raises(ValueError, match="has both dev.csv and dev.tsv"):
        build(path=tmp_path, text="text", split="dev")


def test_a_column_of_splits_and_classes_by_number(tmp_path: Path) -> None:
    rows = [["t", "y", "part"], ["a", "0", "train"], ["b", "3", "train"], ["c", "1", "dev"]]
    path = table(tmp_path / "t.tsv", rows)
    dev = build(path=path, text="t", label="y", split_column="part", split="dev")
    assert dev.class_names == ("0", "1", "2", "3") and dev.read(0).extra == {"label": 1}
    assert dev.coverage["dropped"] == {"other split": 2}
    with pytest.raises(ValueError, match="no row is left: 3 x other split"):
        build(path=path, text="t", label="y", split_column="part", split="test")
    (tmp_path / "names.txt").write_text("none\none\n", "utf-8")
    few = build(path=path, text="t", label="y", classes=tmp_path / "names.txt")
    assert len(few) == 2 and "label 3 is out of range" in str(few.coverage["examples"])


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "t.tsv", [["text", "label"], ["a", "x"]])
    with pytest.raises(ValueError, match="no column 'words'; its first row is text, label"):
        build(path=path, text="words")
    with pytest.raises(ValueError, match=r"name the column of the pictures \(image:\)"):
        build(path=path)
    with pytest.raises(ValueError, match="second_text: follows a text"):
        build(path=path, image="text", second_text="label")
    rows = [{"text": "a", "label": "x"}, {"text": 3, "label": "x"}, {"text": "b"}]
    lines = json_lines(tmp_path / "t.jsonl", rows)
    dataset = build(path=lines, text="text")
    assert len(dataset) == 1 and dataset.coverage["dropped"] == {"broken line": 2}
    pictures = json_lines(tmp_path / "p.jsonl", [{"f": "gone.jpg", "label": 1}])
    with pytest.raises(ValueError, match="no row is left: 1 x no picture"):
        build(path=pictures, image="f")
    half = json_lines(tmp_path / "h.jsonl", [{"text": "\ud83d", "label": 1}])
    with pytest.raises(ValueError, match="1 x text is not UTF-8"):
        build(path=half, text="text")


def test_a_class_tree_with_splits(tmp_path: Path) -> None:
    for place in ("train/cat", "train/dog", "train/emu", "dev/dog", "dev/emu"):
        picture(tmp_path / place / "0.jpg")
    (tmp_path / "train" / "aaa").mkdir()
    (tmp_path / "train" / "aaa" / "notes.txt").write_text("no picture", "utf-8")

    def tree(path: Path, split: str | None) -> Any:
        return registry.datasets.build("image_folder", path=path, split=split)

    train, dev = tree(tmp_path, "train"), tree(tmp_path, "dev")
    assert train.class_names == dev.class_names == ("cat", "dog", "emu")
    assert [dev.read(n).extra["class"] for n in range(2)] == [1, 2]
    assert tree(tmp_path / "train", "dev").class_names == train.class_names  # it has no splits
    with pytest.raises(ValueError, match="has no split 'test', only dev, train"):
        tree(tmp_path, "test")
    picture(tmp_path / "dev" / "fox" / "0.jpg")
    with pytest.raises(ValueError, match="class 'fox' is none of train's"):
        tree(tmp_path, "dev")
