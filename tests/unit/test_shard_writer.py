"""Tars that are written: what others read, the same bytes, and nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.shard_writer import ShardWriter
from flava_plugin.data.shards.writing import ShardFile, ustar_header
from tests.unit.shard_trees import picture


def fill(writer: ShardWriter, count: int) -> None:
    for number in range(writer.done, count):
        image = picture(number, ("JPEG", "PNG", "WEBP")[number % 3])
        writer.add(image=image, text=f"caption {number}", record={"n": number})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "pair", prefix="x-", samples_per_shard=4) as writer:
        fill(writer, 10)
    shards = open_shards(str(tmp_path), "pair", labels=["n"], verify=True)
    assert shards.shard_lengths.tolist() == [4, 4, 2]
    for number in range(10):
        raw = shards.read_raw(number)
        assert raw.image == picture(number, ("JPEG", "PNG", "WEBP")[number % 3])
        assert (raw.extension, raw.extra) == (("jpg", "png", "webp")[number % 3], {"n": number})
        assert raw.text == f"caption {number}"
    with tarfile.open(tmp_path / "x-000001.tar") as tar:
        names = [info.name for info in tar]
        assert all(info.mtime == info.uid == 0 and info.mode == 0o644 for info in tar)
        assert not tar.pax_headers
    assert names[:4] == [f"00000100000.{end}" for end in ("png", "txt", "json")] + [
        "00000100001.webp"
    ]


def test_the_index_is_what_indexing_makes(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "pair", samples_per_shard=4) as writer:
        fill(writer, 6)
    written = {file.name: file.read_bytes() for file in tmp_path.glob("*.idx")}
    for name in written:
        (tmp_path / name).unlink()
    index_folder(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.idx")} == written


def test_the_same_samples_make_the_same_bytes(tmp_path: Path) -> None:
    fingerprints = set()
    for folder in ("a", "b"):
        with ShardWriter(tmp_path / folder, "pair", samples_per_shard=4) as writer:
            fill(writer, 6)
        fingerprints.add(open_shards(str(tmp_path / folder), "pair").fingerprint)
    assert len(fingerprints) == 1
    for file in (tmp_path / "a").glob("*.tar*"):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_webdataset_reads_it(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="its reader is tried: pip install '.[dev]'")
    with ShardWriter(tmp_path, "pair") as writer:
        writer.add(image=picture(1), text="one")
        writer.add(image=picture(2), text="two")
    found = list(wds.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False))
    assert [(each["jpg"], each["txt"]) for each in found] == [
        (picture(1), b"one"),
        (picture(2), b"two"),
    ]


def test_it_goes_on_behind_the_last_whole_tar(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "whole", "pair", samples_per_shard=4) as writer:
        fill(writer, 10)
    with (
        pytest.raises(KeyboardInterrupt),
        ShardWriter(tmp_path / "cut", "pair", samples_per_shard=4) as writer,
    ):
        fill(writer, 6)
        raise KeyboardInterrupt
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == [
        "000000.tar",
        "000000.tar.idx",
    ]
    with ShardWriter(tmp_path / "cut", "pair", samples_per_shard=4) as writer:
        assert writer.done == 4
        fill(writer, 10)
    for file in (tmp_path / "whole").glob("*.tar*"):
        assert file.read_bytes() == (tmp_path / "cut" / file.name).read_bytes()


KILLED = """
import os, sys
from pathlib import Path
from flava_plugin.data.shards.shard_writer import ShardWriter
writer = ShardWriter(Path(sys.argv[1]), "text", samples_per_shard=2)
for number in range(3):
    writer.add(text=f"text {number}")
os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_leaves_whole_tars_and_its_rest_is_swept(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    left = [file.name for file in tmp_path.glob(".tmp-*")]
    assert len(left) == 1
    with ShardWriter(tmp_path, "text", samples_per_shard=2) as writer:
        assert writer.done == 2
        writer.add(text="text 2")
    assert not list(tmp_path.glob(".tmp-*"))
    shards = open_shards(str(tmp_path), "text")
    assert [shards.read_text(index) for index in range(3)] == ["text 0", "text 1", "text 2"]


def test_a_tar_without_its_sidecar_is_indexed_again(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "text", samples_per_shard=2) as writer:
        writer.add(text="a")
        writer.add(text="b")
    (tmp_path / "000000.tar.idx").unlink()
    os.utime(tmp_path / "000000.tar", (5, 5))
    assert ShardWriter(tmp_path, "text", samples_per_shard=2).done == 2


def test_a_full_tar_is_ended_by_its_bytes(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "text", bytes_per_shard=4096) as writer:
        for _ in range(9):
            writer.add(text="x" * 500)
    assert len(list(tmp_path.glob("*.tar"))) == 3


def test_what_is_no_sample_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    file = ShardFile(tmp_path / "a.tar", "pair")
    for image, text, why in (
        (None, "x", "no picture"),
        (picture(), None, "no text"),
        (picture(), " ", "empty text"),
        (b"<html>", "x", "broken picture"),
    ):
        with pytest.raises(DamagedSampleError, match=why):
            file.add("k", image=image, text=text)
    with pytest.raises(ValueError, match="key"):
        file.add("../k", image=picture(), text="x")
    assert (file.size, file.samples) == (0, 0)
    file.drop()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="99,999"):
        ShardWriter(tmp_path, "pair", samples_per_shard=100_000)


def test_the_header_is_tarfiles() -> None:
    info = tarfile.TarInfo("k.jpg")
    info.size = 12345
    assert ustar_header("k.jpg", 12345) == info.tobuf(tarfile.USTAR_FORMAT)
