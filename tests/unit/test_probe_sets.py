"""The probes' sets: torchvision's eighteen, KITTI's distances, UCF101's frames, FER2013's table."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probe_trees import CHECKED, PROBE_TREES, fer2013, kitti, lines, ucf101

from flava_plugin import registry
from flava_plugin.data.split_choice import SplitRule, drawn_rows

SIZES = {  # train and test; two a part where torchvision has the split
    **dict.fromkeys(PROBE_TREES, (2, 2)),
    **dict.fromkeys(("dtd", "flowers102", "pcam", "rendered_sst2", "country211"), (4, 2)),
    **{
        "fgvc_aircraft": (4, 2),
        "cifar10": (10, 2),
        "caltech101": (4, 2),
        "eurosat": (8, 4),
        "clevr_counts": (4, 4),
    },
    **{"sun397": (4, 4)},
}
NAMES = {"mnist": "0 - zero", "clevr_counts": "3", "sun397": "abbey", "country211": "AD"} | {
    "pcam": "no tumor",
    "stanford_cars": "AM General Hummer",
}


def build(kind: str, /, **options: Any) -> Any:
    return registry.datasets.build(kind, **options)


@pytest.mark.parametrize("name", PROBE_TREES)
def test_a_set_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py" if name == "pcam" else "scipy")
    PROBE_TREES[name](tmp_path)
    if name in CHECKED:
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            build("probe_set", path=tmp_path, name=name)
        module = importlib.import_module(f"torchvision.datasets.{CHECKED[name]}")
        monkeypatch.setattr(module, "check_integrity", lambda *_, **__: True)
    for split, size in zip(("train", "test"), SIZES[name], strict=True):
        dataset = build("probe_set", path=tmp_path, name=name, split=split)
        assert len(dataset) == size
        samples = [dataset.read(n) for n in range(size)]
        found = {sample.extra["class"] for sample in samples}
        assert found == ({0, 7} if name == "clevr_counts" else {0, 1})
        assert all(sample.image is not None for sample in samples)
        assert dataset.class_names[0] == NAMES.get(name, dataset.class_names[0])
        again = build("probe_set", path=tmp_path, name=name, split=split)
        assert again.fingerprint == dataset.fingerprint
    assert dataset.fingerprint != build("probe_set", path=tmp_path, name=name).fingerprint
    PROBE_TREES[name](tmp_path / "moved")
    moved = build("probe_set", path=tmp_path / "moved", name=name, split="test")
    assert moved.fingerprint == dataset.fingerprint


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    for name in PROBE_TREES:
        with pytest.raises(ValueError, match=f"no such folder; unpack {name} there"):
            build("probe_set", path=tmp_path, name=name)
    assert not list(tmp_path.iterdir())  # torchvision makes folders where it looks for some
    (tmp_path / "food-101").mkdir()
    with pytest.raises(ValueError, match="food101 cannot be read"):
        build("probe_set", path=tmp_path, name="food101")


def test_splits_of_files(tmp_path: Path) -> None:
    PROBE_TREES["sun397"](tmp_path)
    drawn = build("probe_set", path=tmp_path, name="sun397")
    assert "split drawn by classes, 4 of 8" in drawn.about
    splits = tmp_path / "splits"
    lines(splits / "train.txt", "/a/abbey/sun_1.jpg", "c/church/outdoor/sun_0.jpg church")
    lines(splits / "val.txt", "a/abbey/sun_0.jpg 0")
    lines(splits / "test.txt", "a/abbey/sun_2.jpg")
    options = {"path": tmp_path, "name": "sun397", "splits": splits}
    train = build("probe_set", **options)
    assert [train.read(n).extra["class"] for n in range(3)] == [0, 0, 1]
    assert str(splits) in train.about
    assert len(build("probe_set", **options, split="test")) == 1
    lines(splits / "test.txt", "a/abbey/sun_9.jpg")
    with pytest.raises(ValueError, match="test.txt:1: 'a/abbey/sun_9.jpg' is no sample"):
        build("probe_set", **options, split="test")
    lines(splits / "test.txt", "a/abbey/sun_2.jpg", "/a/abbey/sun_2.jpg 1")
    with pytest.raises(ValueError, match="test.txt:2: .* is listed twice"):
        build("probe_set", **options, split="test")
    with pytest.raises(ValueError, match="has a published split"):
        build("probe_set", path=tmp_path, name="mnist", splits=splits)


def test_drawn_splits_keep_shares_and_never_meet() -> None:
    labels = np.repeat([0, 1, 2], [2500, 2000, 3000])
    rule = SplitRule(3000, 1500)
    train, test = (drawn_rows(labels, rule, split, "x") for split in ("train", "test"))
    assert (len(train), len(test)) == (3000, 1500) and not set(train) & set(test)
    assert np.bincount(labels[train]).tolist() == [1000, 800, 1200]
    assert np.bincount(labels[test]).tolist() == [500, 400, 600]
    assert train.tolist() == drawn_rows(labels, rule, "train", "x").tolist()
    assert train.tolist() != drawn_rows(labels, rule, "train", "y").tolist()
    each = drawn_rows(labels, SplitRule(30, None, True), "train", "x")
    assert np.bincount(labels[each]).tolist() == [30, 30, 30]
    rest = drawn_rows(labels, SplitRule(30, None, True), "test", "x")
    assert len(each) + len(rest) == len(labels) and not set(each) & set(rest)
    with pytest.raises(ValueError, match="1 samples leave none for test"):
        drawn_rows(np.array([0]), SplitRule(1, None, True), "test", "x")


def test_counts_out_of_range_are_refused(tmp_path: Path) -> None:
    from published_trees import write_json

    PROBE_TREES["clevr_counts"](tmp_path)
    scenes = [{"image_filename": f"CLEVR_train_{n:06d}.png", "objects": [{}]} for n in range(4)]
    path = tmp_path / "clevr/CLEVR_v1.0/scenes/CLEVR_train_scenes.json"
    write_json(path, {"scenes": scenes})
    with pytest.raises(ValueError, match="labels -2 to -2 are not among the 8 classes"):
        build("probe_set", path=tmp_path, name="clevr_counts")


def test_distances_of_vehicles(tmp_path: Path) -> None:
    kinds = ["Car:30 Van:7.9", "Truck:8.0", "Car:8.1", "Car:20.5 Cyclist:3", "Pedestrian:2", ""]
    kitti(tmp_path, kinds)
    splits = tmp_path / "splits"
    lines(splits / "train.txt", *[f"{n:06d}.png" for n in range(6)])
    dataset = build("kitti_distance", path=tmp_path, splits=splits)
    assert dataset.labels("class").tolist() == [0, 0, 1, 2, 3, 3]
    assert dataset.read(3).image.size == (56, 48)
    drawn = [build("kitti_distance", path=tmp_path, split=s) for s in ("train", "test")]
    assert sum(map(len, drawn)) == 6 and "drawn by classes" in drawn[1].about
    lines(tmp_path / "Kitti/raw/training/label_2/000002.txt", "Car 1 2")
    inner = tmp_path / "Kitti/raw/training"
    with pytest.raises(ValueError, match="'000002.png' is no sample"):
        build("kitti_distance", path=inner.parent.parent, splits=splits)
    broken = build("kitti_distance", path=inner)
    assert broken.coverage["dropped"]["broken line"] == 1
    with pytest.raises(ValueError, match=r"holds no label_2/\*.txt"):
        build("kitti_distance", path=splits)


def test_frames_of_videos(tmp_path: Path) -> None:
    ucf101(tmp_path)
    train = build("ucf101_frames", path=tmp_path)
    assert train.class_names == ("Archery", "YoYo") and train.labels("class").tolist() == [0, 1]
    assert train.coverage["dropped"] == {"no picture": 1}
    test = build("ucf101_frames", path=tmp_path, split="test")
    assert test.read(0).extra == {"class": 1} and test.path(0).suffix == ".jpg"
    lines(tmp_path / "ucfTrainTestlist" / "classInd.txt", "1 YoYo", "2 Archery")
    assert build("ucf101_frames", path=tmp_path, split="test").read(0).extra == {"class": 0}
    lines(tmp_path / "ucfTrainTestlist" / "testlist01.txt", "Golf/v_Golf_g01_c01.avi")
    with pytest.raises(ValueError, match="no row is left: 1 x unknown label"):
        build("ucf101_frames", path=tmp_path, split="test")


@pytest.mark.parametrize("heading", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_faces(heading: str, tmp_path: Path) -> None:
    name = "fer2013.csv" if heading.endswith("Usage") else "icml_face_data.csv"
    fer2013(tmp_path / "fer2013" / name, heading)
    sizes = {s: len(build("fer2013", path=tmp_path, split=s)) for s in ("train", "val", "test")}
    assert sizes == {"train": 2, "val": 1, "test": 2}
    dataset = build("fer2013", path=tmp_path / "fer2013", split="test")
    sample = dataset.read(1)
    assert sample.extra == {"class": 3} and dataset.class_names[3] == "happy"
    assert sample.image.mode == "RGB" and sample.image.getpixel((5, 40)) == (3, 3, 3)
    table = tmp_path / "fer2013" / name
    text = table.read_text("utf-8").replace("3 3 3", "3 256 3")
    table.write_text(text, "utf-8")
    damaged = build("fer2013", path=table, split="test")
    assert len(damaged) == 1 and damaged.coverage["dropped"]["broken line"] == 1
    with pytest.raises(ValueError, match="holds neither fer2013.csv nor icml_face_data.csv"):
        build("fer2013", path=tmp_path / "fer2013" / ".." / "..")
