"""Every published layout of PMD's sources: what comes out, and the traps of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_trees import TREES, WIT_COLUMNS, karpathy, picture, write_json

from flava_plugin import registry
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts.json_files import array_items
from flava_plugin.data.layouts.sentences import sentences


def build(name: str, **options: Any) -> Any:
    return registry.datasets.build(name, **options)


def pairs_of(dataset: Any) -> list[tuple[str, str]]:
    return [(dataset.path(n).stem, dataset.read_text(n)) for n in range(len(dataset))]


@pytest.mark.parametrize("name", TREES)
def test_a_layout_gives_its_pairs(name: str, tmp_path: Path) -> None:
    options, pairs = TREES[name](tmp_path / "tree")
    dataset = build(name, **options)
    assert pairs_of(dataset) == pairs
    assert dataset.coverage["samples"] == len(dataset) == len(pairs)
    sizes = dataset.text_sizes(np.arange(len(dataset)))
    assert sizes.tolist() == [len(text.encode()) for _, text in pairs]
    for index, (_, text) in enumerate(pairs):
        sample, raw = dataset.read(index), dataset.read_raw(index)
        assert sample.text == raw.text == text and raw.extension == "jpg"
        assert sample.image.size == (56, 48)
        assert raw.image == dataset.path(index).read_bytes()
        assert sample.extra == raw.extra
    moved = TREES[name](tmp_path / "moved")[0]
    assert build(name, **moved).fingerprint == dataset.fingerprint


@pytest.mark.parametrize("name", TREES)
def test_a_picture_that_is_gone_is_counted(name: str, tmp_path: Path) -> None:
    options, _ = TREES[name](tmp_path)
    whole = build(name, **options)
    gone = whole.path(len(whole) - 1)
    gone.unlink()
    lost = sum(whole.path(n) == gone for n in range(len(whole)))
    dropped = build(name, **options)
    assert len(dropped) == len(whole) - lost
    before = whole.coverage["dropped"].get("no picture", 0)
    assert dropped.coverage["dropped"]["no picture"] == before + lost
    assert dropped.fingerprint != whole.fingerprint
    kept = build(name, **options, missing="keep")
    assert len(kept) == len(whole) + before
    assert kept.coverage["without_picture"] == before + lost
    for read in (kept.read, kept.read_raw):
        with pytest.raises(DamagedSampleError, match="no picture"):
            read(len(kept) - 1)


def test_captions_of_a_picture_belong_together(tmp_path: Path) -> None:
    options, _ = TREES["coco_captions"](tmp_path)
    dataset = build("coco_captions", **options)
    numbers = [dataset.read(n).extra["picture"] for n in range(len(dataset))]
    assert numbers == [9 + n // 2 for n in range(12)]


def test_karpathys_splits(tmp_path: Path) -> None:
    options, pairs = karpathy(tmp_path)
    dataset = build("coco_captions", **options)
    assert pairs_of(dataset) == pairs
    assert dataset.coverage["dropped"] == {"other split": 4}
    assert len(build("coco_captions", **options, splits=["test"])) == 2
    # the pictures may lie in one folder, too
    flat = tmp_path / "flat"
    flat.mkdir()
    for n in range(len(dataset)):
        dataset.path(n).rename(flat / dataset.path(n).name) if dataset.path(n).exists() else None
    assert pairs_of(build("coco_captions", path=options["path"], images=flat)) == pairs


def test_narratives_may_stay_whole(tmp_path: Path) -> None:
    options, pairs = TREES["localized_narratives"](tmp_path)
    whole = build("localized_narratives", **options, sentences=False)
    assert 2 * len(whole) == len(pairs)
    assert whole.read_text(0) == " ".join(text for _, text in pairs[:2])


def test_sentences_end_where_they_end() -> None:
    text = 'Dr. J. Smith sees a dog, e.g. a big one. "Is it real?" he asks. It is 3.5 m. tall! yes'
    assert sentences(text) == [
        "Dr. J. Smith sees a dog, e.g. a big one.",
        '"Is it real?" he asks.',
        "It is 3.5 m. tall! yes",
    ]
    assert sentences("there is a car. in the back. ", lower_starts=True) == [
        "there is a car.",
        "in the back.",
    ]
    assert sentences(" \n ") == []


def test_the_tables_of_cc3m_and_cc12m_are_not_mixed_up(tmp_path: Path) -> None:
    options, _ = TREES["cc12m"](tmp_path / "12")
    with pytest.raises(ValueError, match="no sample is left.*another set"):
        build("cc3m", **options)
    options, _ = TREES["cc3m"](tmp_path / "3")
    with pytest.raises(ValueError, match="no sample is left.*another set"):
        build("cc12m", **options)


def test_the_heading_for_img2dataset_is_no_row(tmp_path: Path) -> None:
    options, pairs = TREES["cc3m"](tmp_path)
    table = options["path"]
    table.write_text("caption\turl\n" + table.read_text("utf-8"), "utf-8")
    assert pairs_of(build("cc3m", **options)) == pairs


@pytest.mark.parametrize(
    "names", ["md5", "sha1", "basename", "{row:03d}.png", "{md5:.2}/{md5}.jpg"]
)
def test_rules_for_names(names: str, tmp_path: Path) -> None:
    import hashlib

    url = "https://x.org/a/b%20c.jpg?size=2"
    (tmp_path / "t.tsv").write_text(f"the caption of it\t{url}\n", "utf-8")
    hashed = {kind: hashlib.new(kind, url.encode()).hexdigest() for kind in ("md5", "sha1")}
    expected = {
        "md5": f"{hashed['md5']}.jpg",
        "sha1": f"{hashed['sha1']}.jpg",
        "basename": "b%20c.jpg",
        "{row:03d}.png": "000.png",
    }.get(names, f"{hashed['md5'][:2]}/{hashed['md5']}.jpg")
    picture(tmp_path / "p" / expected)
    dataset = build("cc3m", path=tmp_path / "t.tsv", images=tmp_path / "p", names=names)
    assert dataset.path(0) == tmp_path / "p" / expected


@pytest.mark.parametrize("names", ["rows", "{rows}.jpg", "{row.real}.jpg", "{0}", "{row:q}", "{"])
def test_a_rule_that_is_none_is_refused_with_the_options(names: str, tmp_path: Path) -> None:
    options, _ = TREES["cc3m"](tmp_path)
    with pytest.raises(ValueError, match=r"names\n.*no rule for names.*basename"):
        build("cc3m", **options, names=names)


def test_names_that_two_addresses_share_are_in_doubt(tmp_path: Path) -> None:
    picture(tmp_path / "image.jpg")
    picture(tmp_path / "own.jpg")
    rows = ["a dog\thttp://x/1/image.jpg", "a cat\thttp://x/2/image.jpg", "it\thttp://x/own.jpg"]
    (tmp_path / "t.tsv").write_text("\n".join([*rows, "again\thttp://x/own.jpg"]), "utf-8")
    dataset = build("cc3m", path=tmp_path / "t.tsv", images=tmp_path, names="basename")
    assert pairs_of(dataset) == [("own", "it"), ("own", "again")]
    assert dataset.coverage["dropped"] == {"ambiguous name": 2}


def test_sbu_as_json_and_of_two_lengths(tmp_path: Path) -> None:
    options, pairs = TREES["sbu"](tmp_path)
    folder: Path = options["path"]
    urls, captions = (
        (folder / f"SBU_captioned_photo_dataset_{kind}.txt").read_text("utf-8").splitlines()
        for kind in ("urls", "captions")
    )
    whole = write_json(tmp_path / "sbu.json", {"image_urls": urls, "captions": captions})
    assert pairs_of(build("sbu", path=whole, images=options["images"])) == pairs
    rows = [{"url": u, "caption": c} for u, c in zip(urls, captions, strict=True)]
    listed = write_json(tmp_path / "list.json", rows)
    assert pairs_of(build("sbu", path=listed, images=options["images"])) == pairs
    (folder / "SBU_captioned_photo_dataset_urls.txt").write_text("\n".join(urls[:-1]), "utf-8")
    with pytest.raises(ValueError, match="urls.txt: ends after 5 lines"):
        build("sbu", **options)


def test_wit_counts_what_it_leaves_out(tmp_path: Path) -> None:
    options, _ = TREES["wit"](tmp_path)
    assert build("wit", **options).coverage["dropped"] == {"no text": 2, "other language": 2}
    german = build("wit", **options, languages=["de"])
    assert [text for _, text in pairs_of(german)] == ["Die Brücke bei Nacht"] * 2
    assert len(build("wit", **options, captions=["reference"])) == 2
    table = tmp_path / "other.tsv"
    table.write_text("\t".join(["lang", *WIT_COLUMNS[1:]]) + "\n", "utf-8")
    with pytest.raises(ValueError, match="heading lacks language"):
        build("wit", path=table, images=tmp_path)


def test_redcaps_raw_captions_and_other_json(tmp_path: Path) -> None:
    options, pairs = TREES["redcaps"](tmp_path)
    raw = build("redcaps", **options, caption="raw_caption")
    assert pairs_of(raw) == [(stem, text.upper()) for stem, text in pairs]
    with pytest.raises(ValueError, match="no list 'annotations'"):
        build("redcaps", path=write_json(tmp_path / "x.json", {"rows": []}), images=tmp_path)


def test_yfcc_says_what_its_filter_leaves_out(tmp_path: Path) -> None:
    options, _ = TREES["yfcc100m"](tmp_path)
    found = build("yfcc100m", **options).coverage["dropped"]
    assert found == {"no photograph": 1, "not English": 2, "too few words": 1}
    everything = build("yfcc100m", **options, english="off", min_words=0, texts=["title"])
    assert len(everything) == 6
    titles = build("yfcc100m", **options, texts=["title", "description"])
    assert [text for _, text in pairs_of(titles)][1] == "A walk in the snow"


def test_yfcc_from_json_lines(tmp_path: Path) -> None:
    options, pairs = TREES["yfcc100m"](tmp_path)
    rows = [{"hash": stem, "text": text} for stem, text in pairs]
    rows.append({"hash": pairs[0][0], "title": "Die+Brücke", "description": ""})
    path = tmp_path / "yfcc100m_subset.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    dataset = build("yfcc100m", path=path, images=options["images"])
    assert pairs_of(dataset) == pairs and dataset.coverage["dropped"] == {"too few words": 1}


def test_a_long_array_comes_item_by_item(tmp_path: Path) -> None:
    rows = [{"id": n, "text": "é" * (7 * n % 5000), "list": [1, [2, "]"]]} for n in range(800)]
    path = write_json(tmp_path / "long.json", rows)
    path.write_bytes(json.dumps(rows, ensure_ascii=False, indent=1).encode("utf-8"))
    assert path.stat().st_size > 2 << 20
    assert list(array_items(path)) == rows
    assert list(array_items(write_json(tmp_path / "e.json", []))) == []
    assert list(array_items(write_json(tmp_path / "n.json", [12, 3.5, "a", None]))) == [
        *(12, 3.5, "a", None)
    ]


@pytest.mark.parametrize("text", ["{}", "", '[{"a": 1}, {"b": ', "[1, 2", '[{"a": 1} x]', "[\xff]"])
def test_a_broken_array_says_how_far_it_came(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"broken.json: no JSON array after item \d"):
        list(array_items(path))
