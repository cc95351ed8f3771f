"""``flava data check``: everything that was damaged on purpose is named, and nothing else."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from flava_plugin.cli.main import main
from flava_plugin.data.shards.index_file import HEADER, ROW, Row
from tests.unit.picture_trees import captioned, noise

_PER_SHARD = 5


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """25 pairs in five tars, in the order of their names."""
    path = captioned(tmp_path / "in", 25)
    out = tmp_path / "shards"
    words = ["--shuffle", "none", "--samples-per-shard", str(_PER_SHARD)]
    assert main(["data", "pack", "jsonl_pairs", f"path={path}", "--out", str(out), *words]) == 0
    return out


def check(*words: object) -> int:
    return main(["data", "check", *map(str, words)])


def damage_of(report: Path) -> list[tuple[int | None, str]]:
    rows = map(json.loads, report.read_text("utf-8").splitlines())
    return [(row["sample"], row["reason"]) for row in rows]


def change(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


def row(shards: Path, tar: int, number: int) -> Row:
    data = (shards / f"{tar:06d}.tar.idx").read_bytes()
    return Row._make(ROW.unpack_from(data, HEADER.size + number * ROW.size))


def test_sound_shards(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert check(shards) == 0
    said = capsys.readouterr()
    assert "25 samples (pair)" in said.out and "nothing is damaged" in said.out
    assert "9 jpg" in said.out and "8 png" in said.out and "8 webp" in said.out
    assert said.err == "", "no bar where there is no terminal"


def test_every_byte_of_a_tar_and_of_an_index_counts(shards: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    first = row(shards, 0, 2)
    change(shards / "000000.tar", first.image_block * 512 + first.image_size // 2)  # sample 2
    second = row(shards, 1, 4)
    change(shards / "000001.tar", second.text_block * 512 + 3)  # sample 9
    third = row(shards, 2, 0)
    change(shards / "000002.tar", (third.image_block - 1) * 512 + 265)  # a header: no sample's
    change(shards / "000003.tar.idx", HEADER.size + 5)  # samples 15 to 19
    assert check(shards, "--report", report) == 1
    found = damage_of(report)
    assert found[:3] == [(2, "damaged tar"), (9, "damaged tar"), (None, "damaged tar")]
    assert found[3:] == [(number, "damaged index") for number in range(15, 20)]
    assert "000002.tar: its bytes" in report.read_text("utf-8")


def test_cut_missing_and_longer_tars(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.jsonl"
    cut = shards / "000001.tar"
    cut.write_bytes(cut.read_bytes()[:-2000])
    (shards / "000002.tar").unlink()
    (shards / "000003.tar.idx").unlink()
    with (shards / "000004.tar").open("ab") as longer:
        longer.write(bytes(1024))
    assert check(shards, "--report", report) == 1
    want = {1: "truncated tar", 2: "missing shard", 4: "damaged index"}
    found = damage_of(report)
    for tar, reason in want.items():
        samples = range(tar * _PER_SHARD, (tar + 1) * _PER_SHARD)
        assert [f for f in found if f[0] in samples] == [(each, reason) for each in samples]
    without = [reason for sample, reason in found if sample in range(15, 20)]
    assert len(without) == _PER_SHARD and len(set(without)) == 1
    assert len(found) == 20, "nothing is said twice"
    assert "000002.tar" in capsys.readouterr().out


def test_broken_pictures_are_seen_only_when_decoded(tmp_path: Path) -> None:
    path = captioned(tmp_path / "in", 6)
    broken = tmp_path / "in" / "003.jpg"
    broken.write_bytes(broken.read_bytes()[:-120])
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    words = ["data", "pack", "jsonl_pairs", f"path={path}", "--out", str(out), "--shuffle", "none"]
    assert main([*words, "--no-decode"]) == 0
    assert check(out, "--no-decode") == 0
    assert check(out, "--report", report) == 1
    assert damage_of(report) == [(3, "broken picture")]
    assert check(out, "--budget", 1) == 0
    assert check(out, "--budget", "10%") == 1, "0 of 6"


def test_foreign_tars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))

    def picture(kind: str) -> bytes:
        made = io.BytesIO()
        noise(1).save(made, kind)
        return made.getvalue()

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(5):
            member(tar, f"{number}.jpg", picture("PNG" if number == 3 else "JPEG"))
            text = {1: b" ", 2: b"\xff\xfe\xff"}.get(number, b"a caption")
            member(tar, f"{number}.txt", text)
    assert main(["data", "index", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "1 x empty text" in said and "1 x text is not UTF-8" in said and "'1'" in said
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        member(tar, "9.txt", b"later")
    report = tmp_path / "report.jsonl"
    assert check(tmp_path, "--report", report) == 1
    assert damage_of(report) == [
        (1, "empty text"),
        (2, "text is not UTF-8"),
        (3, "misnamed picture"),
    ]
    said = capsys.readouterr().out
    assert "1 pictures are of another format than their names say" in said and "a.tar:3.jpg" in said
    assert "1 tars are not in the index" in said and "b.tar" in said
    assert check(tmp_path, "--budget", 2) == 0, "misnamed pictures can be read"


def test_damage_from_before_the_index_hides_none_from_after(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"words"))
    change(tmp_path / "a.tar", 1024 + 3)  # the second header: its checksum fails
    assert main(["data", "index", str(tmp_path), "--kind", "text"]) == 0
    report = tmp_path / "report.jsonl"
    assert check(tmp_path, "--report", report) == 1
    before = damage_of(report)
    assert "damaged tar" in {reason for _, reason in before}
    change(tmp_path / "a.tar", 512 + 300)  # padding behind the first text
    assert check(tmp_path, "--report", report) == 1
    assert damage_of(report) == [*before, (None, "damaged tar")]


def result_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_content_hash_survives_packing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = captioned(tmp_path / "in", 25)
    for seed in (1, 2):
        words = ["--shuffle", str(seed), "--samples-per-shard", str(5 + seed)]
        out = str(tmp_path / f"out{seed}")
        assert main(["data", "pack", "jsonl_pairs", f"path={path}", "--out", out, *words]) == 0
    capsys.readouterr()
    hashes = []
    for words in (["jsonl_pairs", f"path={path}"], [tmp_path / "out1"], [tmp_path / "out2"]):
        assert check(*words, "--json") == 0
        hashes += [each["content"] for each in result_of(capsys)]
    assert len(set(hashes)) == 1
    other = path.read_text("utf-8").replace("number 7", "number 8")
    path.write_text(other, "utf-8")
    assert check("jsonl_pairs", f"path={path}", "--json") == 0
    assert result_of(capsys)[0]["content"] != hashes[0]


def test_several_processes_find_the_same(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(shards / "000001.tar", row(shards, 1, 1).image_block * 512 + 60)
    change(shards / "000003.tar", row(shards, 3, 2).image_block * 512 + 60)
    capsys.readouterr()
    said, reports = [], []
    for jobs in (1, 2):
        report = tmp_path / f"{jobs}.jsonl"
        assert check(shards, "--jobs", jobs, "--json", "--report", report) == 1
        said.append(result_of(capsys))
        reports.append(report.read_text("utf-8"))
    assert said[0] == said[1] and reports[0] == reports[1]
    assert [sample for sample, _ in damage_of(tmp_path / "2.jsonl")] == [6, 17]


def test_every_source_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"data.sources.{name}.dataset.size=10" for name in ("pairs", "images", "sentences")]
    code = check("pretrain/shapes", *words)
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out.count("nothing is damaged") == 3
    assert "data.sources.pairs: 10 samples (pair)" in said.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: no such folder, recipe or registered dataset"),
        (["pretrain/shapes", "data.sauces=1"], "unknown key"),
        (["shapes_pairs", "sise=1"], "sise"),
        (["shapes_pairs", "--report", "/nowhere/report.jsonl"], "no such folder"),
    ],
)
def test_refusals(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(*words) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_the_way_is_shown_on_a_terminal_or_when_asked(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(shards, "--progress") == 0
    assert "25.0/25.0" in capsys.readouterr().err
