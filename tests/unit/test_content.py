"""Kept features and figures see every sample: any one that changes is another state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_doubles import Listed, numbered
from PIL import Image
from probe_trees import fer2013, kitti, lines, ucf101
from published_trees import imagenet, karpathy
from shard_trees import make_set, pairs

from flava_plugin import registry
from flava_plugin.evaluate.content import content_of
from flava_plugin.types import Sample


def build(kind: str, /, **options: Any) -> Any:
    return registry.datasets.build(kind, **options)


def of_other_bytes(path: Path) -> None:
    """Rewrite a file to the same length."""
    data, before = bytearray(path.read_bytes()), path.stat().st_mtime_ns
    data[-1] ^= 1
    path.write_bytes(data)
    # a clock that ticks every few milliseconds may not have moved since
    os.utime(path, ns=(before, max(before + 1_000_000, path.stat().st_mtime_ns)))


def rendered_sst2(root: Path) -> dict[str, Any]:
    for split in ("train", "valid", "test"):
        for n, name in enumerate(("negative", "positive") * 3):
            path = root / "rendered-sst2" / split / name / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            numbered(n).save(path)
    return {"path": root, "name": "rendered_sst2"}


def folder_of_imagenet(root: Path) -> dict[str, Any]:
    return {"path": imagenet(root, 5)}


def distances(root: Path) -> dict[str, Any]:
    kitti(root, ["Car:5", "Car:15", "Van:50", "Misc:1"] * 2)
    lines(root / "all" / "train.txt", *[f"{n:06d}.png" for n in range(8)])
    return {"path": root, "splits": root / "all"}


def frames(root: Path) -> dict[str, Any]:
    ucf101(root)
    return {"path": root}


@pytest.mark.parametrize(
    ("kind", "tree"),
    [
        ("probe_set", rendered_sst2),
        ("imagenet", folder_of_imagenet),
        ("kitti_distance", distances),
        ("ucf101_frames", frames),
        ("karpathy_retrieval", lambda root: karpathy(root)[0]),
    ],
)
def test_every_picture_is_seen(kind: str, tree: Any, tmp_path: Path) -> None:
    options = tree(tmp_path)
    dataset = build(kind, **options)
    if kind == "probe_set":  # torchvision decodes at once, and forgets the name
        pictures = sorted(tmp_path.glob("rendered-sst2/train/*/*.png"))
    else:
        samples = [dataset.read(index) for index in range(len(dataset))]
        pictures = sorted({Path(sample.image.filename) for sample in samples})
    assert len(pictures) > 1
    states = {content_of(dataset), content_of(build(kind, **options))}
    assert len(states) == 1  # nothing changed, nothing is seen
    for number, path in enumerate(pictures, 2):
        of_other_bytes(path)
        states.add(content_of(dataset))
        assert len(states) == number, path
    pictures[-1].unlink()
    assert content_of(dataset) not in states


def test_a_label_and_a_face_are_seen(tmp_path: Path) -> None:
    table = tmp_path / "fer2013" / "fer2013.csv"
    fer2013(table, "emotion,pixels,Usage")
    first, text = content_of(build("fer2013", path=tmp_path)), table.read_text("utf-8")
    assert list(build("fer2013", path=tmp_path).files()) == []
    for old, new in (("0,0 0", "1,0 0"), ("1 1,PublicTest", "1 2,PublicTest")):
        table.write_text(text.replace(old, new, 1), "utf-8")
        assert content_of(build("fer2013", path=tmp_path)) != first
    table.write_text(text.replace("3 3,PrivateTest", "3 4,PrivateTest", 1), "utf-8")
    assert content_of(build("fer2013", path=tmp_path)) == first  # of the other split


@pytest.mark.parametrize("row", [0, 17, 49])
def test_of_a_dataset_that_names_no_files_every_sample_is_read(row: int) -> None:
    def dataset(change: Any = None) -> Listed:
        samples = [Sample(numbered(n), extra={"class": n % 5}) for n in range(50)]
        if change is not None:
            samples[row] = change(samples[row])
        return Listed(samples)

    def pixel(sample: Sample) -> Sample:
        grid = np.asarray(sample.image).copy()
        grid[1, 1, 2] ^= 1
        return Sample(Image.fromarray(grid), extra=sample.extra)

    states = {
        content_of(dataset()),
        content_of(dataset(pixel)),
        content_of(dataset(lambda s: Sample(s.image, extra={"class": 9}))),
        content_of(dataset(lambda s: Sample(s.image, "a text", extra=s.extra))),
    }
    assert len(states) == 4 and content_of(dataset()) in states


def test_packed_samples_are_seen_by_their_index_and_their_tars(tmp_path: Path) -> None:
    dataset = make_set(tmp_path, [pairs(3), pairs(2, first=3)])
    first = content_of(dataset)
    assert content_of(dataset) == first
    for path in sorted(tmp_path.rglob("*.tar")):
        of_other_bytes(path)
        assert content_of(dataset) != first
        first = content_of(dataset)
