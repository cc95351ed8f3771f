"""Tables of one's own, and what Hugging Face keeps."""

from __future__ import annotations

import csv
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_trees import picture

from flava_plugin import registry
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts.english import is_english

ROWS = [
    ("a.jpg", 'a "quoted", short caption', "en"),
    ("b.png", "der Hund und die Katze", "de"),
    ("sub/c.jpg", "the dog\nof the house", "en"),
    ("sub/c.jpg", "dogs", "en"),
]


def build(name: str, **options: Any) -> Any:
    return registry.datasets.build(name, **options)


def texts_of(dataset: Any) -> list[str]:
    return [dataset.read_text(n) for n in range(len(dataset))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shade, (name, _, _) in enumerate(ROWS):
        picture(tmp_path / "p" / name, shade)
    return tmp_path


def manifest(folder: Path, kind: str, header: bool = True) -> Path:
    path = folder / f"m.{kind}"
    if kind == "jsonl":
        rows = [{"image": i, "caption": c, "lang": x} for i, c, x in ROWS]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return path
    text = io.StringIO()
    head = [("image", "caption", "lang")] if header else []
    if kind == "csv":
        csv.writer(text).writerows([*head, *ROWS])
    else:
        text.writelines("\t".join(row).replace("\n", " ") + "\n" for row in [*head, *ROWS])
    path.write_text(text.getvalue(), "utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_the_three_kinds_of_manifest_say_the_same(kind: str, folder: Path) -> None:
    dataset = build("manifest_pairs", path=manifest(folder, kind), images=folder / "p")
    assert texts_of(dataset) == [" ".join(caption.split()) for _, caption, _ in ROWS]
    assert [str(dataset.path(n).relative_to(folder / "p")) for n in range(4)] == [
        r[0] for r in ROWS
    ]
    assert dataset.read(2).extra == dataset.read(3).extra != dataset.read(1).extra
    assert dataset.read_raw(1).extension == "png"
    english = build(
        "manifest_pairs", path=manifest(folder, kind), images=folder / "p", language="lang"
    )
    assert len(english) == 3 and english.coverage["dropped"] == {"other language": 1}
    long = build(
        "manifest_pairs",
        path=manifest(folder, kind),
        images=folder / "p",
        english="stopwords",
        min_words=2,
    )
    assert texts_of(long) == ["the dog of the house"]
    assert long.coverage["dropped"] == {"not English": 2, "too few words": 1}


def test_columns_by_number(folder: Path) -> None:
    path = manifest(folder, "tsv", header=False)
    options = {"path": path, "images": folder / "p", "header": False}
    dataset = build("manifest_pairs", **options, image=0, caption=1)
    assert len(dataset) == 4
    with pytest.raises(ValueError, match="columns 0 to 2, no column 7"):
        build("manifest_pairs", **options, image=0, caption=7)
    with pytest.raises(ValueError, match="no column 'image'.*numbers from 0"):
        build("manifest_pairs", **options)
    with pytest.raises(ValueError, match=r"call it .tsv, .csv or .jsonl"):
        build("manifest_pairs", path=path.rename(folder / "m.dat"), images=folder)


def test_the_key_of_img2datasets_tables(folder: Path) -> None:
    picture(folder / "out" / "00002" / "000020007.jpg")
    path = folder / "t.tsv"
    path.write_text("key\tcaption\n000020007\tthe one that came\n000020008\tdead\n", "utf-8")
    names = "{image:.5}/{image}.jpg"
    dataset = build("manifest_pairs", path=path, images=folder / "out", image="key", names=names)
    assert texts_of(dataset) == ["the one that came"]
    assert dataset.coverage["dropped"] == {"no picture": 1}


def test_several_captions_and_an_imagefolder(folder: Path) -> None:
    rows = [
        {"file_name": "a.jpg", "text": ["one", "two"]},
        {"file_name": "b.png", "text": "three"},
        {"file_name": "b.png", "text": ["four", 5]},
    ]
    path = folder / "p" / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    dataset = build("hf_pairs", path=folder / "p")
    assert texts_of(dataset) == ["one", "two", "three", "four"]
    assert dataset.coverage["dropped"] == {"broken line": 1}


def test_memory_is_about_a_hundred_bytes_a_pair(folder: Path) -> None:
    caption = "a photograph of twelve words which is what a caption has mostly"
    path = folder / "big.jsonl"
    with path.open("w") as file:
        for row in range(20_000):
            name = f"{row // 10000:05d}/{row:09d}.jpg"
            file.write(json.dumps({"image": name, "caption": caption}) + "\n")
    dataset = build("manifest_pairs", path=path, images=folder, missing="keep")
    assert len(caption) < dataset.columns.nbytes / 20_000 < len(caption) + 55
    with pytest.raises(ValueError, match="read-only"):
        dataset.columns.texts[0] = 1
    assert pickle.loads(pickle.dumps(dataset)).read_text(7) == caption


@pytest.mark.parametrize(
    ("text", "stopwords", "ascii_"),
    [
        ("The old bridge at night", True, True),
        ("a dog in a park", True, True),
        ("Golden Gate Bridge", False, True),
        ("Sonnenuntergang in Berlin", False, True),
        ("el perro en el parque de la ciudad", False, True),
        ("un chien dans le jardin", False, True),
        ("o cão na praia com uma bola", False, False),
        ("the café of the year", True, False),
        ("The 東京都庁舎 と 新宿 of", False, False),
        ("12 34 !!", False, False),
    ],
)
def test_what_counts_as_english(text: str, stopwords: bool, ascii_: bool) -> None:
    assert is_english(text, "stopwords") is stopwords
    assert is_english(text, "ascii") is ascii_
    assert is_english(text, "off")


def hugging_face_rows(folder: Path) -> dict[str, list[Any]]:
    files = [folder / "p" / name for name, _, _ in ROWS]
    return {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "text": [caption for _, caption, _ in ROWS],
    }


@pytest.mark.parametrize("kind", ["parquet", "save_to_disk"])
def test_tables_of_hugging_face(kind: str, folder: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="pip install '.[hf]'")
    rows = hugging_face_rows(folder)
    if kind == "parquet":
        rows["image"][3] = {"bytes": None, "path": "sub/c.jpg"}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict(rows, features=features)
    path = folder / "hf"
    if kind == "parquet":
        (path / "data").mkdir(parents=True)
        table.to_parquet(path / "data" / "train-00000-of-00001.parquet", batch_size=2)
    else:
        datasets.DatasetDict({"train": table, "test": table}).save_to_disk(path)
    dataset = build("hf_pairs", path=path, split="train", images=folder / "p")
    assert len(dataset) == 4 and texts_of(dataset) == rows["text"]
    for index, (name, caption, _) in enumerate(ROWS):
        raw, sample = dataset.read_raw(index), dataset.read(index)
        assert raw.image == (folder / "p" / name).read_bytes()
        assert raw.text == sample.text == caption and sample.image.size == (56, 48)
    sizes = dataset.text_sizes(np.array([2, 0]))
    assert sizes.tolist() == [len(ROWS[2][1].encode()), len(ROWS[0][1].encode())]
    assert pickle.loads(pickle.dumps(dataset)).read_text(1) == ROWS[1][1]
    assert len(dataset.fingerprint) == 16
    with pytest.raises(ValueError, match="no column caption"):
        build("hf_pairs", path=path, split="train", text="caption")
    if kind == "save_to_disk":
        with pytest.raises(ValueError, match="set split: to one of train, test"):
            build("hf_pairs", path=path)


def test_parquet_of_paths_and_what_is_wrong_with_it(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install '.[hf]'")
    import pyarrow.parquet as parquet

    path = folder / "p" / "t.parquet"
    names = ["a.jpg", "../a.jpg", None, "gone.jpg"]
    columns = {"image": names, "text": ["x", "y", None, "z"]}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=3)
    dataset = build("hf_pairs", path=path)
    assert dataset.shard_lengths.tolist() == [3, 1] and dataset.read(0).text == "x"
    assert dataset.text_sizes(np.arange(4)).tolist() == [1, 1, 0, 1]
    for index, reason in ((1, "unsafe name"), (2, "no picture"), (3, "no picture")):
        with pytest.raises(DamagedSampleError, match=reason):
            dataset.read(index)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="no parquet file"):
        build("hf_pairs", path=path)
    many = pyarrow.table({"image": ["a.jpg"], "text": [["x", "y"]]})
    parquet.write_table(many, path)
    with pytest.raises(ValueError, match="holds list.*a row of each caption"):
        build("hf_pairs", path=path)
