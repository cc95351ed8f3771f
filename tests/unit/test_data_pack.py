"""``flava data pack``: what goes in comes out, and a refusal says why."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.data.raw_reading import read_raw
from flava_plugin.data.shards.packing_plan import PackPlan, tar_name
from flava_plugin.types import Dataset
from tests.unit.picture_trees import captioned, classes, digests, noise


def open_pack(folder: Path, kind: str, **options: Any) -> Dataset:
    dataset: Dataset = registry.datasets.build(f"webdataset_{kind}", path=str(folder), **options)
    return dataset


def pack(*words: object) -> int:
    return main(["data", "pack", *map(str, words)])


def test_pictures_with_captions_keep_their_bytes(tmp_path: Path) -> None:
    path = captioned(tmp_path / "in", 20)
    out = tmp_path / "out"
    assert pack("jsonl_pairs", f"path={path}", "--out", out, "--samples-per-shard", 8) == 0
    source = registry.datasets.build("jsonl_pairs", path=path)
    packed = open_pack(out, "pairs", labels=["picture"])
    assert sorted(p.name for p in out.glob("*.tar")) == [f"00000{n}.tar" for n in range(3)]
    want = {(r.image, r.text, r.extra["picture"]) for r in map(source.read_raw, range(20))}
    got = {(r.image, r.text, r.extra["picture"]) for r in map(packed.read_raw, range(20))}
    assert got == want and len(got) == 20
    order = [packed.read_raw(n).text for n in range(20)]
    assert order != [source.read_raw(n).text for n in range(20)], "it was to be shuffled"
    names = {packed.read_raw(n).name.partition(":")[2].partition(".")[2] for n in range(20)}
    assert names == {"jpg", "png", "webp"}


def test_without_shuffling_the_order_is_kept_over_overflowing_shards(tmp_path: Path) -> None:
    tree = tmp_path / "in"
    tree.mkdir()
    for number in range(12):
        noise(number, 512, 300).save(tree / f"{number:02d}.png")  # 460 kB each
    out = tmp_path / "out"
    words = ("--shuffle", "none", "--samples-per-shard", 10, "--shard-mib", 1)
    assert pack(tree, "--out", out, *words) == 0
    names = [path.name for path in sorted(out.glob("*.tar"))]
    assert names[:3] == ["000000.tar", "000000_001.tar", "000000_002.tar"]
    assert names[-1] == "000001.tar"
    packed = open_pack(out, "images")
    for number in range(12):
        assert packed.read_raw(number).image == (tree / f"{number:02d}.png").read_bytes()


def test_classes_become_labels_and_other_formats_png(tmp_path: Path) -> None:
    tree = classes(tmp_path / "in", 6)
    out = tmp_path / "out"
    assert pack(tree, "--out", out, "--shuffle", "none") == 0
    packed = open_pack(out, "images", labels=["class"])
    source = registry.datasets.build("image_folder", path=tree)
    about = json.loads((out / "pack.json").read_text("utf-8"))
    assert about["class_names"] == ["cat", "dog"]
    for number in range(6):
        sample, raw = packed.read(number), source.read_raw(number)
        assert sample.extra["class"] == raw.extra["class"]
        if raw.extension == "gif":
            assert sample.image is not None and sample.image.format == "PNG"
            same = np.array(sample.image) == np.array(source.read(number).image.convert("RGB"))
            assert same.all()
        else:
            assert packed.read_raw(number).image == raw.image


def test_lines_of_text_become_shards_of_text(tmp_path: Path) -> None:
    lines = [f"line {number} \u00e9 \u4e2d" for number in range(30)]
    (tmp_path / "text.txt").write_text("\n".join(lines), "utf-8")
    out = tmp_path / "out"
    words = ("--shuffle", "none", "--samples-per-shard", 7)
    assert pack("text_lines", f"path={tmp_path / 'text.txt'}", "--out", out, *words) == 0
    packed = open_pack(out, "text")
    assert [packed.read(n).text for n in range(len(packed))] == lines


def test_drawn_pictures_are_packed_as_png_with_their_false_captions(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pack("shapes_pairs", "size=9", "--out", out, "--shuffle", "none") == 0
    source = registry.datasets.build("shapes_pairs", size=9)
    packed = open_pack(out, "pairs", labels=["negative_text"])
    for number in range(9):
        there, here = packed.read(number), source.read(number)
        assert there.text == here.text and there.extra["negative_text"] == here.negative_text
        assert np.array_equal(np.array(there.image), np.array(here.image))


def test_shards_are_packed_anew_and_their_records_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (tmp_path / name for name in ("a", "b", "c"))
    assert pack("shapes_pairs", "size=9", "--out", first, "--samples-per-shard", 2) == 0
    assert pack(first, "--out", second) == 0
    assert "records are left out" in capsys.readouterr().err
    assert pack(first, "labels=[negative_text]", "--out", third) == 0
    assert "records" not in capsys.readouterr().err
    assert open_pack(third, "pairs", labels=["negative_text"]).read(0).extra["negative_text"]
    texts = [{read_raw(open_pack(f, "pairs"), n).text for n in range(9)} for f in (first, second)]
    assert texts[0] == texts[1]


def test_plain_ustar_with_two_members_a_sample(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one\ntwo\n", "utf-8")
    assert pack("text_lines", f"path={tmp_path / 'text.txt'}", "--out", tmp_path / "t") == 0
    with tarfile.open(tmp_path / "t" / "000000.tar") as tar:
        assert sorted(member.name for member in tar) == ["000000000.txt", "000000001.txt"]
        assert not any(member.pax_headers for member in tar)


def test_reencoding_brings_large_pictures_down(tmp_path: Path) -> None:
    tree = tmp_path / "in"
    tree.mkdir()
    noise(0, 200, 100).save(tree / "large.png")
    noise(1, 60, 40).save(tree / "small.png")
    out = tmp_path / "out"
    words = ("--reencode", 50, "--quality", 80, "--shuffle", "none")
    assert pack(tree, "--out", out, *words) == 0
    packed = open_pack(out, "images")
    large, small = packed.read(0).image, packed.read(1).image
    assert large is not None and large.size == (100, 50) and large.format == "JPEG"
    assert packed.read_raw(1).image == (tree / "small.png").read_bytes()
    assert small is not None and small.format == "PNG"


def test_damaged_samples_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = captioned(tmp_path / "in", 12)
    cut = tmp_path / "in" / "003.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / "in" / "004.png").unlink()
    (tmp_path / "in" / "005.webp").write_bytes(b"<html>gone</html>")
    words = ["jsonl_pairs", f"path={path}", "--out", tmp_path / "out", "--samples-per-shard", 4]
    assert pack(*words, "--budget", 2) == 1
    said = capsys.readouterr().err
    assert "3 samples are damaged, more than the 2 of --budget" in said
    assert "004.png" in said and "005.webp" in said
    assert pack(*words, "--budget", 3) == 0, "what was packed is gone on with"
    lines = (tmp_path / "out" / "left_out.jsonl").read_text("utf-8").splitlines()
    named = {row["sample"]: row["reason"] for row in map(json.loads, lines)}
    assert named == {3: "broken picture", 4: "no picture", 5: "broken picture"}
    about = json.loads((tmp_path / "out" / "pack.json").read_text("utf-8"))
    assert about["result"]["samples"] == 9
    assert about["result"]["left_out"] == {"broken picture": 2, "no picture": 1}
    assert len(open_pack(tmp_path / "out", "pairs")) == 9


def test_nothing_sound_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"no picture")
    assert pack(tmp_path / "in", "--kind", "image", "--out", tmp_path / "o", "--budget", 1.0) == 1
    assert "none of 1 samples is sound" in capsys.readouterr().err
    assert pack(tmp_path / "in", "--out", tmp_path / "o") == 1
    assert "none of the first samples can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shapes_pairs", "size=5", "--shuffle", "1"], "holds another pack (shuffle: 0 there"),
        (["shapes_pairs", "size=6"], "holds another pack"),
        (["shapes_pears"], "did you mean 'shapes_pairs'?"),
        (["shapes_pairs", "sise=5"], "sise"),
        (["shapes_pairs", "size"], "is no key=value"),
        ([__file__], "name the dataset that reads it"),
        (["s3://bucket/tars"], "webdataset_pairs path=s3://bucket/tars"),
        (["shapes_pairs", "--quality", "101"], "is at most 100"),
    ],
)
def test_refusals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert pack("shapes_pairs", "size=5", "--out", tmp_path / "out") == 0
    capsys.readouterr()
    assert pack(*words, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--budget", "many"], ["--jobs", "0"], ["--shuffle", "x"], ["--encode", "gif"]]
)
def test_words_argparse_refuses(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        pack("shapes_pairs", "size=5", "--out", tmp_path / "out", *words)
    assert refused.value.code == 2


def test_a_folder_of_other_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine", "utf-8")
    assert pack("shapes_pairs", "size=5", "--out", out) == 2
    assert "holds other files (thesis.txt)" in capsys.readouterr().err
    assert digests(out) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b'{"format": 1}', b'{"format": "flava_plugin pack 1"}', b"\xff\xfe"],
)
def test_a_damaged_record_of_a_pack_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "pack.json").write_bytes(content)
    assert pack("shapes_pairs", "size=5", "--out", tmp_path) == 2
    assert "name a new folder" in capsys.readouterr().err
    assert digests(tmp_path) == {"pack.json": content}


def test_tars_without_an_index_are_sent_to_indexing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("a.txt")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"one"))
    assert pack(tmp_path, "--out", tmp_path / "out") == 2
    assert f"run: flava data index {tmp_path}" in capsys.readouterr().err


def test_names_of_tars_sort_as_parts_do() -> None:
    names = [tar_name(part, number) for part in range(3) for number in range(12)]
    assert names == sorted(names)


@pytest.mark.parametrize("shuffle", [None, 0, 5])
def test_parts_hold_every_sample_once(shuffle: int | None) -> None:
    plan = PackPlan(
        dataset="d",
        options={},
        fingerprint="f",
        samples=1003,
        kind="pair",
        per_shard=100,
        shuffle=shuffle,
    )
    found = np.concatenate([plan.indices(part) for part in range(plan.parts)])
    assert sorted(found.tolist()) == list(range(1003))
    assert (found.tolist() == list(range(1003))) == (shuffle is None)


def test_a_picture_of_another_mode_is_packed(tmp_path: Path) -> None:
    tree = tmp_path / "in"
    tree.mkdir()
    Image.new("CMYK", (9, 9), (10, 20, 30, 40)).save(tree / "print.tif")
    assert pack(tree, "--out", tmp_path / "out") == 0
    picture = open_pack(tmp_path / "out", "images").read(0).image
    assert picture is not None and (picture.format, picture.mode) == ("PNG", "RGB")
