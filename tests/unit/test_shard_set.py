"""Samples of indexed tars by number: what is read, and what is said of damage."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.index_file import (
    SUFFIX,
)
from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.data.shards.manifest import NAME
from flava_plugin.data.shards.open_shards import MOST_OPEN
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.data.shards.store import LocalStore, open_store
from flava_plugin.recipe_check import _check_path
from flava_plugin.registry import datasets
from flava_plugin.types import Dataset
from tests.unit.shard_trees import make_set, pairs, picture, write_tar

LAYOUTS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def uneven(folder: Path, **options: Any) -> ShardSet:
    return make_set(folder, [pairs(3), pairs(5, 3), pairs(1, 8)], **options)


def reason(shards: ShardSet, index: int) -> str:
    with pytest.raises(DamagedSampleError) as caught:
        shards.read(index)
    with pytest.raises(DamagedSampleError) as again:
        shards.read_raw(index)
    assert caught.value.reason == again.value.reason
    assert ".tar" in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_read_is_what_tarfile_reads(tmp_path: Path, layout: int) -> None:
    for number in range(3):
        members = []
        for name, content in pairs(4, 4 * number, "deep/" * 30):
            members += [(name, content)]
            if name.endswith("jpg"):
                members += [(name[:-3] + "json", b'{"width": 16}')]
        if layout == tarfile.USTAR_FORMAT:
            members = [
                (name.replace("deep/" * 30, "deep/" * 20), content) for name, content in members
            ]
        write_tar(tmp_path / f"{number}.tar", members, layout)
    index_folder(tmp_path)
    theirs: list[tuple[bytes, str]] = []
    for file in sorted(tmp_path.glob("*.tar")):
        with tarfile.open(file) as tar:
            found = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
        for name in sorted(name for name in found if name.endswith(".jpg")):
            theirs.append((found[name], found[name[:-3] + "txt"].decode()))
    shards = open_shards(str(tmp_path), "pair", labels=["width"], verify=True)
    assert isinstance(shards, Dataset)
    assert len(shards) == 12
    for index, (image, text) in enumerate(theirs):
        raw = shards.read_raw(index)
        assert (raw.image, raw.text, raw.extension) == (image, text, "jpg")
        assert raw.extra == {"width": 16}
        assert raw.name.startswith(f"{index // 4}.tar:deep/")
        sample = shards.read(index)
        assert sample.image is not None
        sample.image.load()
        assert (sample.text, sample.extra) == (text, {"width": 16})
        assert shards.read_text(index) == text


def test_lengths_neighbours_and_sizes(tmp_path: Path) -> None:
    shards = uneven(tmp_path)
    assert shards.shard_lengths.tolist() == [3, 5, 1]
    assert [shards.neighbours(index) for index in (0, 3, 7, 8)] == [
        range(3), range(3, 8), range(3, 8), range(8, 9),
    ]  # fmt: skip
    indices = np.array([8, 0, 5, 0])
    assert shards.text_sizes(indices).tolist() == [9] * 4
    assert shards.text_sizes(np.array([], np.int64)).tolist() == []
    for index in (-1, 9):
        with pytest.raises(IndexError):
            shards.read(index)


def test_lengths_of_texts_are_kept_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flava_plugin.data.shards.shard_set.SIZES_KEPT", 2)
    shards = uneven(tmp_path)
    everything = np.arange(len(shards))
    assert shards.text_sizes(everything).tolist() == [9] * 9
    (tmp_path / ("002.tar" + SUFFIX)).unlink()
    assert shards.text_sizes(everything[3:]).tolist() == [9] * 6, "no sidecar is read again"
    assert shards.text_sizes(everything[:1]).tolist() == [9], "which takes the place of another"


def test_the_fingerprint_changes_with_the_tars(tmp_path: Path) -> None:
    first = uneven(tmp_path).fingerprint
    assert len(first) == 16
    assert uneven(tmp_path).fingerprint == first
    (tmp_path / "001.tar").rename(tmp_path / "009.tar")
    index_folder(tmp_path)
    moved = open_shards(str(tmp_path), "pair").fingerprint
    write_tar(tmp_path / "009.tar", [*pairs(4, 3), ("z.jpg", picture(50)), ("z.txt", b"other")])
    index_folder(tmp_path)
    assert len({first, moved, open_shards(str(tmp_path), "pair").fingerprint}) == 3


def test_captions_labels_and_classes(tmp_path: Path) -> None:
    record = b'{"caption": "of the record", "n": 3, "list": [1, 2.5], "odd": {"a": 1}}'
    members = [
        ("a.jpg", picture()), ("a.json", record), ("a.txt", b"\xef\xbb\xbfof the text \n"),
        ("b.jpg", picture()), ("b.json", record),
        ("c.cls", b"17"), ("c.jpg", picture()), ("c.txt", b"x"),
        ("d.cls", b"cat"), ("d.jpg", picture()), ("d.txt", b"x"),
    ]  # fmt: skip
    shards = make_set(tmp_path, [members])
    assert [shards.read(index).text for index in range(3)] == ["of the text", "of the record", "x"]
    assert shards.read_text(1) == "of the record"
    assert shards.text_sizes(np.arange(2))[1] == len("of the record")
    assert shards.read(2).extra == {"class": 17}
    assert reason(shards, 3) == "broken record"
    other = open_shards(str(tmp_path), "pair", caption_key="caption", labels=["n", "list"])
    assert other.read(0).text == "of the record"
    assert other.read(0).extra == {"n": 3, "list": [1, 2.5]}
    assert reason(other, 2) == "no text"
    for label in ("odd", "none"):
        assert reason(open_shards(str(tmp_path), "pair", labels=[label]), 0) == "broken record"
    images = open_shards(str(tmp_path), "image")
    assert (images.read(0).text, images.read_text(0)) == (None, None)
    texts = open_shards(str(tmp_path), "text")
    assert texts.read(0).image is None
    assert texts.read_raw(0).image is None


def test_what_the_index_flags_is_raised(tmp_path: Path) -> None:
    members = [
        ("a.jpg", b"GIF, no"), ("a.txt", b"x"),
        ("b.txt", b"x"),
        ("c.jpg", picture()),
        ("d.jpg", picture()), ("d.txt", b"\xff"),
        ("../e.jpg", picture()), ("../e.txt", b"x"),
        ("f.jpg", picture()), ("f.txt", b"fine"),
    ]  # fmt: skip
    shards = make_set(tmp_path, [members])
    wanted = ["wrong extension", "no picture", "no text", "text is not UTF-8", "unsafe name"]
    assert [reason(shards, index) for index in range(5)] == wanted
    assert shards.read(5).text == "fine"
    texts = open_shards(str(tmp_path), "text")
    assert texts.read(1).text == "x", "a text needs no picture"
    images = open_shards(str(tmp_path), "image")
    assert images.read(3).image is not None, "a picture needs no text"


def test_damage_behind_the_index(tmp_path: Path) -> None:
    shards = uneven(tmp_path, verify=True)
    tar = tmp_path / "001.tar"
    data = tar.read_bytes()
    assert shards.read(3).text == "caption 3"

    tar.write_bytes(data[:-512])
    assert reason(open_shards(str(tmp_path), "pair"), 3) == "truncated tar"
    tar.write_bytes(data[:1000])
    assert reason(shards, 4) == "truncated tar", "cut while it is open"
    tar.write_bytes(data + bytes(512))
    assert reason(open_shards(str(tmp_path), "pair"), 3) == "damaged index"
    flipped = bytearray(data)
    flipped[data.index(b"caption 4") + 8] ^= 1
    tar.write_bytes(flipped)
    fresh = open_shards(str(tmp_path), "pair", verify=True)
    assert reason(fresh, 4) == "damaged tar"
    assert fresh.read(5).text == "caption 5"
    tar.unlink()
    fresh = open_shards(str(tmp_path), "pair")
    assert reason(fresh, 4) == "missing shard"
    assert fresh.read(0).text == "caption 0"


def test_damaged_sidecars(tmp_path: Path) -> None:
    uneven(tmp_path)
    sidecar = tmp_path / ("001.tar" + SUFFIX)
    other = (tmp_path / ("000.tar" + SUFFIX)).read_bytes()
    data = sidecar.read_bytes()
    for broken in (data[:-1], data[:10], b"", other, data[:70] + b"\xff" + data[71:]):
        sidecar.write_bytes(broken)
        shards = open_shards(str(tmp_path), "pair")
        assert reason(shards, 3) == "damaged index"
        assert shards.text_sizes(np.array([3, 0])).tolist() == [0, 9]
    sidecar.unlink()
    assert reason(open_shards(str(tmp_path), "pair"), 3) == "damaged index"


def test_without_an_index_it_says_what_to_run(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", pairs(1))
    for kind in ("pairs", "images", "text"):
        with pytest.raises(ValueError, match="flava data index"):
            datasets.build(f"webdataset_{kind}", path=str(tmp_path))
    (tmp_path / NAME).write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="flava data index"):
        open_shards(str(tmp_path), "pair")
    with pytest.raises(ValueError, match="no such folder"):
        open_store(str(tmp_path / "none"), None)
    with pytest.raises(ValueError, match="cache:"):
        open_store("s3://bucket/data", None)
    write_tar(tmp_path / "a.tar", [])
    index_folder(tmp_path)
    with pytest.raises(ValueError, match="lists no sample"):
        open_shards(str(tmp_path), "pair")


def test_a_location_is_a_path_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDS", str(tmp_path))
    schema = datasets.schema("webdataset_pairs")
    assert schema.model_validate({"path": "$SHARDS/a"}).path == f"{tmp_path}/a"  # type: ignore[attr-defined]
    assert not list(_check_path("s3://bucket/a", ("path",)))
    assert not list(_check_path("$SHARDS", ("path",)))
    assert list(_check_path("$SHARDS/none", ("path",)))
    assert list(_check_path("s3://$NOWHERE/a", ("path",)))


class Texts:
    """What a reading process does."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> str | None:
        return self.shards.read(index).text


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_reading_processes_open_their_own(tmp_path: Path, start: str) -> None:
    shards = uneven(tmp_path)
    shards.read(0)
    loader = DataLoader(
        Texts(shards),  # type: ignore[arg-type]
        num_workers=2,
        batch_size=None,
        multiprocessing_context=start,
    )
    assert list(loader) == [f"caption {number}" for number in range(9)]
    assert shards.read(4).text == "caption 4"


def test_few_files_are_open(tmp_path: Path) -> None:
    shards = make_set(tmp_path, [pairs(1, number) for number in range(MOST_OPEN + 20)])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in [*range(len(shards)), *range(len(shards))]:
        assert shards.read(index).text == f"caption {index}"
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 2 * MOST_OPEN
    del shards
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


class Listening(LocalStore):
    """A folder that notes what is expected of it."""

    def expect(self, files: Sequence[tuple[str, int, bytes]]) -> None:
        for name, size, checked in files:
            path = self.local(name, size, checked)
            assert path.stat().st_size == size
            self.names.append(name)

    names: list[str]

    def take_incidents(self) -> dict[str, int]:
        return {"request failed": 2}


def test_the_store_hears_what_is_expected(tmp_path: Path) -> None:
    manifest = uneven(tmp_path).manifest
    store = Listening(tmp_path)
    store.names = []
    shards = ShardSet(store, manifest, "pair")
    shards.expect([2, 0])
    assert store.names == ["002.tar.idx", "002.tar", "000.tar.idx", "000.tar"]
    assert shards.take_incidents() == {"request failed": 2}
