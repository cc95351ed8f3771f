"""Broken lines and files of every kind: named, counted, left out, refused beyond the budget."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from published_trees import TREES, karpathy, picture, write_json

from flava_plugin import registry
from flava_plugin.data.layouts import lines as lines_module
from flava_plugin.data.layouts.delimited import csv_rows, tab_rows
from flava_plugin.data.layouts.lines import json_lines, lines
from flava_plugin.data.layouts.picture_names import inside
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.randomness import generator


def build(name: str, **options: Any) -> Any:
    return registry.datasets.build(name, **options)


def table(tmp_path: Path, data: bytes, name: str = "t.tsv") -> Path:
    for row in range(8):
        picture(tmp_path / "p" / "00000" / f"{row:09d}.jpg", row)
    path = tmp_path / name
    path.write_bytes(data)
    return path


def good(count: int) -> bytes:
    return b"".join(b"the good row\thttp://x/1.jpg\n" for _ in range(count))


BROKEN = {
    "a NUL": (b"a \0 caption\thttp://x/2.jpg", "broken line", "NUL"),
    "no UTF-8": (b"a caf\xe9\thttp://x/2.jpg", "text is not UTF-8", "byte 5"),
    "one column": (b"no address here", "broken line", "1 columns, not 2"),
    "three columns": (b"a\tb\tc", "broken line", "3 columns, not 2"),
    "an empty caption": (b" \thttp://x/2.jpg", "empty text", ""),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_counted_and_named(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line, reason, detail = BROKEN[kind]
    path = table(tmp_path, good(2) + line + b"\n" + good(2))
    with caplog.at_level(logging.WARNING):
        dataset = build("cc3m", path=path, images=tmp_path / "p")
    # the rows behind it keep their numbers
    assert [dataset.path(n).stem for n in range(4)] == [f"{n:09d}" for n in (0, 1, 3, 4)]
    assert dataset.coverage["dropped"] == {reason: 1}
    (example,) = dataset.coverage["examples"][reason]
    assert example.startswith(f"{path}:3") and detail in example
    assert reason == "empty text" or f"{path}:3" in caplog.text


def test_marks_and_line_ends_of_windows(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbffirst one\thttp://x/0.jpg\r\n\r\nlast one\thttp://x/1.jpg"
    dataset = build("cc3m", path=table(tmp_path, data), images=tmp_path / "p")
    assert [dataset.read_text(n) for n in range(2)] == ["first one", "last one"]
    assert dataset.coverage["dropped"] == {"empty line": 1}


def test_a_line_without_an_end_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "LONGEST", 100)
    for size in (99, 100, 101, 150, 201, 202, 1000):
        path = table(tmp_path, b"first\n" + b"x" * size + b"\nlast\n")
        found = list(lines(path))
        middle = found[1]
        assert len(found) == 3 and found[2].text == "last"  # type: ignore[union-attr]
        if size >= 100:  # the line's end counts
            assert isinstance(middle, Dropped) and "longer than 100 bytes" in middle.where
        else:
            assert middle.text == "x" * size  # type: ignore[union-attr]


def test_the_budget_of_broken_lines(tmp_path: Path) -> None:
    path = table(tmp_path, good(8) + b"broken\n" * 10)
    assert len(build("cc3m", path=path, images=tmp_path / "p")) == 8
    path = table(tmp_path, good(8) + b"broken\n" * 11)
    with pytest.raises(ValueError, match=r"11 of 19 lines are broken.*t.tsv:9.*broken_lines"):
        build("cc3m", path=path, images=tmp_path / "p")
    assert len(build("cc3m", path=path, images=tmp_path / "p", broken_lines=0.6)) == 8


def test_a_file_of_another_kind_is_refused_early(tmp_path: Path) -> None:
    path = table(tmp_path, b"broken\n" * 200_000)
    with pytest.raises(ValueError, match=r"of 1\d{4} lines are broken"):
        build("cc3m", path=path, images=tmp_path / "p")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_compressed_data_that_ends_early(pack: Any, tmp_path: Path) -> None:
    rows = b"".join(b"row %d of a table\thttp://x/%d.jpg\n" % (n, n) for n in range(20000))
    whole = pack(rows)
    path = table(tmp_path, whole[: len(whole) // 2], "t.tsv.gz")
    with pytest.raises(ValueError, match=r"t.tsv.gz: cannot be read beyond line \d+.*fetch"):
        list(lines(path))
    path.write_bytes(whole)
    assert len(list(lines(path))) == 20000


@pytest.mark.parametrize(
    "name",
    ["../x.jpg", "/x.jpg", "a/../../x.jpg", "C:x.jpg", "\\\\host\\x.jpg", "a\0b.jpg", "", "\ud800"],
)
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "x.jpg")
    picture(tmp_path / "in" / "good.jpg")
    rows = [{"image": name, "caption": "outside"}, {"image": "good.jpg", "caption": "inside"}]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for missing in ("drop", "keep"):
        dataset = build("manifest_pairs", path=path, images=tmp_path / "in", missing=missing)
        assert dataset.read_text(0) == "inside" and len(dataset) == 1
        assert dataset.coverage["dropped"] == {"unsafe name": 1}
    assert not inside(name)


def test_hostile_names_in_the_layouts_that_make_them(tmp_path: Path) -> None:
    picture(tmp_path / "secret.jpg")
    rows = [{"image_id": "../../secret", "subreddit": "cats", "caption": "a caption"}]
    path = write_json(tmp_path / "a" / "x.json", {"info": {}, "annotations": rows})
    (tmp_path / "images" / "cats").mkdir(parents=True)
    with pytest.raises(ValueError, match="unsafe name"):
        build("redcaps", path=path, images=tmp_path / "images")


@pytest.mark.parametrize(
    ("caption", "reason"),
    [(42, "broken line"), (True, "broken line"), ({}, "broken line"), (None, "no text"),
     ("", "empty text"), (" \n ", "empty text"), ("\ud800", "text is not UTF-8"),
     ("a\0b", "broken line")],
)  # fmt: skip
def test_a_caption_that_is_none(caption: Any, reason: str, tmp_path: Path) -> None:
    options, pairs = TREES["redcaps"](tmp_path)
    file = options["path"] / "cats_2017.json"
    data = json.loads(file.read_text("utf-8"))
    data["annotations"][1]["caption"] = caption
    write_json(file, data)
    dataset = build("redcaps", **options)
    assert dataset.coverage["dropped"] == {reason: 1} and len(dataset) == len(pairs) - 1


def test_numbers_in_a_table_of_text_are_text(tmp_path: Path) -> None:
    path = table(tmp_path, b"2014\thttp://x/0.jpg\n")
    assert build("cc3m", path=path, images=tmp_path / "p").read_text(0) == "2014"


def test_quotes_mean_nothing_in_tab_separated_tables(tmp_path: Path) -> None:
    path = table(tmp_path, b'"a\tb\nc\td"\n"e"\tf\n')
    assert [row.fields for row in tab_rows(path)] == [  # type: ignore[union-attr]
        ['"a', "b"],
        ["c", 'd"'],
        ['"e"', "f"],
    ]


def test_quotes_in_comma_separated_tables(tmp_path: Path) -> None:
    path = table(tmp_path, b'a,"b, ""c""\nd"\n\ne,f\nx\n', "t.csv")
    found = list(csv_rows(path))
    kept = [(row.number, row.fields) for row in found if not isinstance(row, Dropped)]
    assert kept == [(2, ["a", 'b, "c"\nd']), (4, ["e", "f"])]
    assert {row.reason for row in found if isinstance(row, Dropped)} == {
        "empty line",
        "broken line",
    }


def test_a_quote_that_nothing_closes_counts_each_line_it_swallowed(tmp_path: Path) -> None:
    path = table(tmp_path, b'a,b\nc,"d\n' + b"e,f\n" * 5, "t.csv")
    dropped = [row for row in csv_rows(path) if isinstance(row, Dropped)]
    assert [row.where.split(":")[1] for row in dropped] == ["2", "3", "4", "5", "6", "7"]
    # the longest value csv takes stops it before the end of the file
    path = table(tmp_path, b'a,b\nc,"d\n' + b"eeeeeeeee,f\n" * 12_000, "t.csv")
    rows = list(csv_rows(path))
    dropped = [row for row in rows if isinstance(row, Dropped)]
    assert len(rows) == 12_002 and 10_000 < len(dropped) < 12_000


def test_json_lines_that_are_none(tmp_path: Path) -> None:
    deep = b"[" * 100_000
    data = b'{"a": 1}\n{"a": \n[1]\n' + deep + b"\nnull\n" + b'{"a": "\\u0000"}\n'
    found = list(json_lines(table(tmp_path, data, "t.jsonl")))
    assert [isinstance(row, Dropped) for row in found] == [False, True, True, True, True, False]


def test_seeded_damage_neither_crashes_nor_leads_out(tmp_path: Path) -> None:
    """Random bytes in the tables and JSON of every layout: read, or refused by a ValueError."""
    trees = {name: make(tmp_path / name) for name, make in TREES.items()}
    for turn in range(180):
        chance = generator(turn, "damage", ("layouts",))
        name = sorted(trees)[turn % len(trees)]
        options, _ = trees[name]
        files = [options["path"]] if options["path"].is_file() else sorted(
            file for file in options["path"].iterdir() if file.is_file()
        )  # fmt: skip
        file = files[int(chance.integers(len(files)))]
        whole = file.read_bytes()
        broken = bytearray(whole)
        for _ in range(int(chance.integers(1, 20))):
            broken[int(chance.integers(len(broken)))] = int(chance.integers(256))
        if turn % 3 == 0:
            del broken[int(chance.integers(len(broken))) :]
        file.write_bytes(bytes(broken))
        try:
            after = build(name, **options)
            assert after.coverage["samples"] == len(after) > 0
            for index in range(len(after)):
                assert after.read_text(index).strip()
                assert options["images"] in after.path(index).resolve().parents
        except ValueError as error:
            assert str(error)
        finally:
            file.write_bytes(whole)


JUNK = (None, [], {}, -1, 10**30, True, 2.5, "", "../x", "x\0y", "\ud800", [[1]], {"a": 1})


def strewn(value: Any, chance: Any) -> Any:
    """The value with some of its parts replaced by junk, or left out."""
    if chance.random() < 0.04:
        return JUNK[int(chance.integers(len(JUNK)))]
    if isinstance(value, dict):
        return {k: strewn(v, chance) for k, v in value.items() if chance.random() > 0.01}
    return [strewn(v, chance) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["coco_captions", "visual_genome", "redcaps", "karpathy"])
def test_json_of_another_shape(name: str, tmp_path: Path) -> None:
    options, _ = karpathy(tmp_path) if name == "karpathy" else TREES[name](tmp_path)
    builder = "coco_captions" if name == "karpathy" else name
    path: Path = options["path"]
    files = [path] if path.is_file() else sorted(path.iterdir())
    whole = [json.loads(file.read_text("utf-8")) for file in files]
    read = 0
    for turn in range(60):
        chance = generator(turn, "junk", (name,))
        for file, value in zip(files, whole, strict=True):
            write_json(file, strewn(value, chance))
        try:
            dataset = build(builder, **options)
        except ValueError as error:
            assert str(tmp_path) in str(error)
            continue
        read += 1
        texts = [dataset.read_text(n) for n in range(len(dataset))]
        assert all(texts) and dataset.read(0).image is not None
    assert read > 5
