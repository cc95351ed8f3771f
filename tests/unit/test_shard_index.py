"""Tars -> sidecars and a manifest: which samples there are, and what is wrong with them."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.grouping import Grouped, group_members
from flava_plugin.data.shards.hashing_reader import HashingReader
from flava_plugin.data.shards.index_file import (
    FLAGS,
    ROW,
    ROW_DTYPE,
    Row,
    decode_index,
    digest,
    first_reason,
)
from flava_plugin.data.shards.indexing import Indexed, index_folder
from flava_plugin.data.shards.manifest import NAME, decode_manifest, gather
from flava_plugin.types import Modality
from tests.unit.shard_trees import (
    END,
    Members,
    extended,
    header,
    octal,
    padded,
    pairs,
    picture,
    record,
    tar_bytes,
    write_tar,
)


def group(data: bytes, kind: Modality = "pair", key: str = "caption") -> Grouped:
    return group_members(io.BytesIO(data), len(data), kind, key)


def rows(grouped: Grouped) -> list[Row]:
    return [Row._make(each) for each in ROW.iter_unpack(grouped.rows)]


def reasons(members: Members, kind: Modality = "pair") -> list[Any]:
    return [first_reason(row.flags, kind) for row in rows(group(tar_bytes(members), kind))]


def test_a_row_says_where_members_lie() -> None:
    labels = b'{"n": 1}'
    data = tar_bytes([("k.txt", b"hi"), ("k.json", labels), ("k.png", picture(1, "PNG"))])
    (row,) = rows(group(data))
    for block, size, content in (
        (row.image_block, row.image_size, picture(1, "PNG")),
        (row.text_block, row.text_size, b"hi"),
        (row.record_block, row.record_size, labels),
    ):
        assert data[512 * block : 512 * block + size] == content
    assert (row.flags, row.format, row.spare) == (0, 2, 0)
    assert ROW_DTYPE.itemsize == ROW.size == 32
    assert list(ROW_DTYPE.names or ()) == list(Row._fields)


def test_keys_end_at_the_first_dot() -> None:
    members = [
        ("a.b/k.jpg", picture()),
        ("a.b/k.TXT", b"x"),
        ("c/k.JPEG", picture()),
        ("c/k.caption", b"y"),
    ]
    assert reasons(members) == [None, None]


def test_equal_keys_apart_and_together_stay_samples() -> None:
    assert reasons(pairs(2) + pairs(2)) == [None] * 4
    assert reasons(pairs(1) + pairs(1)) == [None] * 2


def test_captions_in_records() -> None:
    members = [
        ("a.jpg", picture()), ("a.json", '{"caption": "größe"}'.encode()),
        ("b.jpg", picture()), ("b.json", b'{"other": 1}'),
        ("c.jpg", picture()), ("c.json", b'{"caption": " "}'),
        ("d.jpg", picture()), ("d.json", b"{"),
        ("e.jpg", picture()), ("e.json", b"[" * 100_000),
        ("f.jpg", picture()), ("f.cls", b"3"),
    ]  # fmt: skip
    found = rows(group(tar_bytes(members)))
    assert (found[0].text_block, found[0].text_size) == (0, len("größe".encode()))
    wanted = [None, "no text", "empty text", "broken record", "broken record", "no text"]
    assert [first_reason(row.flags, "pair") for row in found] == wanted
    assert reasons(members, "image") == [None] * 6
    assert found[5].spare == 1


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ([("a.txt", b"x")], ["no picture"]),
        ([("a.jpg", picture())], ["no text"]),
        ([("a.jpg", picture()), ("a.txt", b" \n")], ["empty text"]),
        ([("a.jpg", picture()), ("a.txt", b"\xff\xfe")], ["text is not UTF-8"]),
        ([("a.jpg", b"<html>"), ("a.txt", b"x")], ["wrong extension"]),
        ([("a.jpg", b""), ("a.txt", b"x")], ["wrong extension"]),
        ([("a.npy", b"x"), ("a.txt", b"x")], ["wrong extension"]),
        ([("a.v1.jpg", picture()), ("a.v1.txt", b"x")], ["wrong extension"]),
        ([("../a.jpg", picture()), ("../a.txt", b"x")], ["unsafe name"]),
        ([("/a.jpg", picture()), ("/a.txt", b"x")], ["unsafe name"]),
        ([("x\\a.jpg", picture()), ("x\\a.txt", b"x")], ["unsafe name"]),
        ([("c:a.jpg", picture()), ("c:a.txt", b"x")], ["unsafe name"]),
        ([("a/../../b.jpg", picture()), ("a/../../b.txt", b"x")], ["unsafe name"]),
    ],
)  # fmt: skip
def test_every_fault_of_a_sample(members: Members, wanted: list[str]) -> None:
    whole = [*pairs(1), *members, *pairs(1, 7)]
    assert reasons(whole) == [None, *wanted, None]
    grouped = group(tar_bytes(whole))
    assert grouped.counts == {wanted[0]: 1}
    assert [(fault.row, fault.reason) for fault in grouped.faults] == [(1, wanted[0])]
    assert grouped.faults[0].detail


def test_a_name_with_a_nul() -> None:
    data = extended(record("path", "a\0b.txt")) + header(b"x", octal(1)) + padded(b"x") + END
    assert [first_reason(row.flags, "text") for row in rows(group(data, "text"))] == ["unsafe name"]


def test_a_damaged_place_costs_one_sample() -> None:
    data = tar_bytes(pairs(3))
    second = data.index(b"00001.txt")
    broken = bytearray(data)
    broken[second] ^= 1
    found = [first_reason(row.flags, "pair") for row in rows(group(bytes(broken)))]
    assert found == [None, "damaged tar", None]
    text = data.index(b"caption 1")
    found = [first_reason(row.flags, "pair") for row in rows(group(data[: text + 3]))]
    assert found == [None, "truncated tar"]
    end = data.index(b"caption 2") + 512  # the last block is whole, the end mark gone
    found = [first_reason(row.flags, "pair") for row in rows(group(data[:end]))]
    assert found == [None, None, None, "truncated tar"]


def test_members_of_no_sample_are_named() -> None:
    members = [("README", b"x"), ("._00000.jpg", b"x"), *pairs(1)]
    grouped = group(tar_bytes(members))
    assert grouped.passed_over == 2
    assert grouped.passed[0].startswith("'README'")
    assert len(rows(grouped)) == 1


def test_hashing_reads_once_and_in_any_order(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes((3 << 20) + 77)
    file = tmp_path / "a"
    file.write_bytes(data)
    for places in ([], [0, 100, 50], [2 << 20, 5, (3 << 20) + 70], [len(data) + 9, 1]):
        with file.open("rb", buffering=0) as opened:
            reader = HashingReader(opened)
            for place in places:
                reader.seek(place)
                assert reader.read(1000) == data[place : place + 1000]
            assert reader.digest() == digest(data)


def folder_of(tmp_path: Path, shards: int = 3) -> Path:
    folder = tmp_path / "data"
    for number in range(shards):
        write_tar(folder / f"sub{number % 2}" / f"{number:05d}.tar", pairs(4, 4 * number))
    return folder


def test_a_folder_in_one_process_and_in_two(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    seen: list[tuple[str, int]] = []
    one = index_folder(folder, progress=lambda done, all_: seen.append((done.entry.name, all_)))
    names = ["sub0/00000.tar", "sub0/00002.tar", "sub1/00001.tar"]
    assert seen == [(name, 3) for name in names]
    assert [one.name(shard) for shard in range(3)] == names
    sidecars = [(folder / (name + ".idx")).read_bytes() for name in names]
    for name in names:
        (folder / (name + ".idx")).unlink()
    assert index_folder(folder, jobs=2).fingerprint == one.fingerprint
    assert [(folder / (name + ".idx")).read_bytes() for name in names] == sidecars
    read = decode_manifest((folder / NAME).read_bytes(), NAME)
    assert read.fingerprint == one.fingerprint
    assert read.entry(1) == one.entry(1)
    assert read.entry(1).digest == digest((folder / names[1]).read_bytes())
    assert read.entry(1).index_digest == digest(sidecars[1])
    assert not list(folder.rglob(".tmp-*"))


def test_what_fits_is_kept(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    first = folder / "sub0/00000.tar"
    first.write_bytes(tar_bytes([*pairs(3), ("x.txt", b"alone")]))
    kept: list[bool] = []

    def note(done: Indexed, _: int) -> None:
        kept.append(done.kept)

    before = index_folder(folder, progress=note)
    assert before.faults == {"no picture": 1}
    again = index_folder(folder, progress=note)
    assert kept == [False] * 3 + [True] * 3
    assert again.fingerprint == before.fingerprint, "faults are counted from kept rows too"
    os.utime(first, (1, 1))
    index_folder(folder, progress=note)
    assert kept[6:] == [False, True, True]
    (folder / "sub0/00002.tar.idx").write_bytes(b"rubbish")
    index_folder(folder, progress=note)
    assert kept[9:] == [True, False, True]
    index_folder(folder, kind="image", progress=note)
    assert kept[12:] == [False] * 3


def test_a_folder_without_tars(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        index_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"holds no \*\.tar"):
        index_folder(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="unpack"):
        index_folder(tmp_path)


def test_img2dataset_and_webdataset_are_read_as_they_are(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="its writer is tried: pip install '.[dev]'")
    labels = {"caption": "a", "url": "b", "key": "000000000", "status": "success", "width": 16}
    with wds.TarWriter(str(tmp_path / "00000.tar")) as writer:
        for number in range(5):
            key = f"{number:09d}"
            writer.write({"__key__": key, "jpg": picture(number), "txt": "a", "json": labels})
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    (tmp_path / "00000_stats.json").write_text(json.dumps({"count": 5}))
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert len(tar.getmembers()) == 15
    manifest = index_folder(tmp_path)
    assert (len(manifest), int(manifest.samples[0]), manifest.faults) == (1, 5, {})


def test_the_sidecar_is_what_is_written_down(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    index_folder(folder)
    data = (folder / "sub0/00000.tar.idx").read_bytes()
    magic, version, count, size, checked = struct.unpack_from("<8sIIQ16s", data)
    assert (magic, version, count) == (b"FLAVAIDX", 1, 4)
    assert size == (folder / "sub0/00000.tar").stat().st_size
    assert checked == digest(data[64:])
    assert len(data) == 64 + 32 * 4


@pytest.mark.parametrize("place", [0, 9, 13, 30, 64, 90])
def test_a_damaged_sidecar_is_refused(tmp_path: Path, place: int) -> None:
    folder = folder_of(tmp_path, 1)
    index_folder(folder)
    data = bytearray((folder / "sub0/00000.tar.idx").read_bytes())
    data[place] ^= 1
    for broken in (bytes(data), bytes(data)[:-1], bytes(data)[:place]):
        with pytest.raises(DamagedSampleError, match="flava data index"):
            decode_index(broken, "x.idx")


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    fingerprint = index_folder(folder).fingerprint
    data = (folder / NAME).read_bytes()
    for place in range(0, len(data), 7):
        broken = bytearray(data)
        broken[place] ^= 1
        try:  # a bit of the header's padding or of no meaning may change
            assert decode_manifest(bytes(broken), NAME).fingerprint == fingerprint
        except ValueError as error:
            assert "flava data index" in str(error)
        with pytest.raises(ValueError, match="flava data index"):
            decode_manifest(data[:place], NAME)


def test_a_manifest_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    line = index_folder(folder_of(tmp_path)).entry(0)
    for name in ("../x.tar", "/x.tar", "a/../../x.tar", "a\0.tar", "..\\x.tar"):
        hostile = gather([line._replace(name=name)], kind="pair", caption_key="caption", faults={})
        read = decode_manifest(hostile.encode(), NAME)
        with pytest.raises(DamagedSampleError, match="unsafe name"):
            read.entry(0)


def test_reasons_have_bits_of_their_own() -> None:
    assert len(set(FLAGS.values())) == len(FLAGS)
    assert all(bit.bit_count() == 1 for bit in FLAGS.values())
    assert max(FLAGS.values()) < 1 << 16
