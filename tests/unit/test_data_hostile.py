"""A hostile command line: sources for targets, odd names, full disks, Ctrl-C at any moment."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flava_plugin import durable
from flava_plugin.cli.main import main
from flava_plugin.data.damage import StoreError
from flava_plugin.data.shards.packing_plan import tar_name
from flava_plugin.data.shards.writing import ShardFile
from tests.unit.picture_trees import captioned, digests, noise

CODEBOOK = ("fit-codebook", "--codes", "8")


def data(*words: object) -> int:
    return main(["data", *map(str, words)])


@pytest.mark.parametrize(
    "words",
    [
        ("pack", "{shards}", "--out", "{shards}"),
        ("pack", "{shards}", "--out", "{shards}/inside"),
        ("pack", "image_folder", "path={in}", "--out", "{in}/a/b"),
        ("check", "jsonl_pairs", "path={jsonl}", "--report", "{jsonl}"),
        ("stats", "jsonl_pairs", "path={jsonl}", "--report", "{jsonl}"),
        ("stats", "{in}", "--sheet", "{in}/sheet.png"),
        ("curate", "{shards}", "--out", "{shards}", "--step", "duplicates"),
        ("curate", "jsonl_pairs", "path={jsonl}", "--out", "{jsonl}", "--step", "duplicates"),
        (*CODEBOOK, "jsonl_pairs", "path={jsonl}", "--out", "{jsonl}"),
        (
            "check",
            "pmd",
            "sources={{a: {{type: jsonl_pairs, path: {jsonl}}}}}",
            "--report",
            "{jsonl}",
        ),
    ],
)
def test_the_source_is_never_the_target(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = captioned(tmp_path / "in", 6)
    assert data("pack", "jsonl_pairs", f"path={path}", "--out", tmp_path / "shards") == 0
    (tmp_path / "in/a").mkdir()
    before = digests(tmp_path)
    places = {"in": path.parent, "jsonl": path, "shards": tmp_path / "shards"}
    assert data(*(word.format(**places) for word in words)) == 2
    said = capsys.readouterr().err
    assert str(path.parent) in said or str(tmp_path / "shards") in said
    assert digests(tmp_path) == before


def test_names_that_no_terminal_can_print(tmp_path: Path) -> None:
    tree = tmp_path / "in"
    tree.mkdir()
    for number, name in enumerate(("a b.jpg", "new\nline.jpg", "100%.jpg", "\u65e5\u672c.JPG")):
        noise(number).save(tree / name, "JPEG")
    (tree / os.fsdecode(b"\xff.jpg")).write_bytes(b"\xff\xd8\xff broken")
    code = "import sys; from flava_plugin.cli.main import main; sys.exit(main(sys.argv[1:]))"
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}

    def said_by(*words: object) -> tuple[int, str]:
        command = [sys.executable, "-c", code, "data", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=plain, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    returned, said = said_by("check", tree)
    assert returned == 1 and "5 samples" in said and "\\udcff.jpg: starts as no picture" in said
    assert said_by("stats", tree)[0] == 0
    assert said_by("pack", tree, "--out", tmp_path / "out", "--budget", 1)[0] == 0
    left_out = json.loads((tmp_path / "out/left_out.jsonl").read_text("utf-8"))
    assert "0x" not in left_out["detail"], "an address in memory differs from run to run"
    words = ("curate", tree, "--out", tmp_path / "best", "--step", "near_duplicates")
    assert said_by(*words)[0] == 0
    record = json.loads((tmp_path / "best/curation.json").read_text("utf-8"))
    example = record["steps"][0]["examples"]["broken picture"]
    assert "\udcff.jpg" in example and "0x" not in example


def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise(1).save(tmp_path / "a.png")
    for words in (["--cased"], ["--length", "9"]):
        assert data("stats", tmp_path, *words) == 2
        assert "--vocab" in capsys.readouterr().err
    assert data("index", tmp_path / "a.png") == 2
    assert "is a file; name its folder" in capsys.readouterr().err
    assert data("check", "s3://bucket/pairs") == 2
    assert "webdataset_pairs path=s3://bucket/pairs" in capsys.readouterr().err
    assert data("stats", tmp_path, "path=[") == 2
    assert "'path=['" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync", full)
        with pytest.raises(OSError, match=r"No space.*table"):
            durable.write_bytes(tmp_path / "table", b"content")
    tar = ShardFile(tmp_path / "a.tar", "text")
    tar.add("0", text="words")
    file: Any = tar._file
    monkeypatch.setattr(tar, "_file", type("Full", (), {"close": full})())
    tar.drop()
    file.close()
    assert not list(tmp_path.iterdir())


def test_pictures_too_long_for_a_format_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (70_000, 2)).save(tmp_path / "in/long.bmp")
    noise(1).save(tmp_path / "in/b.bmp")
    for name, kept in (("jpg", 1), ("webp", 1), ("png", 2)):
        words = ("--out", tmp_path / name, "--encode", name, "--budget", 1)
        assert data("pack", tmp_path / "in", *words) == 0
        about = json.loads((tmp_path / name / "pack.json").read_text("utf-8"))
        assert about["result"]["samples"] == kept


def test_names_of_tars_sort_by_number() -> None:
    numbers = (0, 1, 999, 1000, 1001, 12_345)
    parts = (0, 999_999, 1_000_000, 1_000_001, 123_456_789)
    names = [tar_name(part, number) for part in parts for number in numbers]
    assert names == sorted(names)


def test_half_a_surrogate_pair_is_not_packed_as_a_question_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = captioned(tmp_path / "in", 2)
    path.write_text('{"image": "000.jpg", "caption": "half \\ud800"}\n' + path.read_text("utf-8"))
    words = ("pack", "jsonl_pairs", f"path={path}", "--out", tmp_path / "out")
    assert data(*words) == 1
    assert "1 x text is not UTF-8" in capsys.readouterr().err
    assert data(*words, "--budget", 1) == 0


@pytest.mark.parametrize("command", ["pack", "curate", "stats", "check"])
def test_a_store_that_stays_away_is_no_traceback(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = captioned(tmp_path / "in", 3)
    assert data("pack", "jsonl_pairs", f"path={path}", "--out", tmp_path / "s") == 0

    def away(*_: object) -> None:
        raise StoreError("s3://b: does not answer")

    monkeypatch.setattr("flava_plugin.data.shards.shard_set.ShardSet.read_raw", away)
    more = {
        "pack": ("--out", tmp_path / "o", "--kind", "pair"),
        "curate": ("--out", tmp_path / "o", "--step", "duplicates"),
    }.get(command, ())
    assert data(command, tmp_path / "s", *more) == 1
    assert f"flava data {command}: s3://b: does not answer" in capsys.readouterr().err


def test_a_vocabulary_needs_no_pictures_and_no_broken_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = captioned(tmp_path / "in", 30)
    (path.parent / "007.png").unlink()
    (tmp_path / "lines.txt").write_bytes(b"some words\n\xff\xfe\nmore words\n")
    words = ("--dataset", "jsonl_pairs", f"path={path}", "--size", 60, "--out", tmp_path / "v.txt")
    assert data("train-vocab", *words) == 0
    assert "tokens from 30 lines" in capsys.readouterr().out
    lines = ("--dataset", "text_lines", f"path={tmp_path / 'lines.txt'}")
    assert data("train-vocab", *lines, *words[3:]) == 0
    said = capsys.readouterr()
    assert "from 2 lines" in said.out and "passed over: 1 x ValueError" in said.err


def test_ctrl_c_while_processes_start(tmp_path: Path) -> None:
    path = captioned(tmp_path / "in", 1000)  # seconds of work: a stalled test is not late
    words = ["pack", "jsonl_pairs", f"path={path}", "--out", str(tmp_path / "out")]
    words += ["--samples-per-shard", "1", "--jobs", "3"]
    # a shell has what it starts in the background ignore Ctrl-C, these tests and their children too
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = "import sys; from flava_plugin.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", hears + code, "data", *words],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    end = time.monotonic() + 60
    while not (tmp_path / "out/pack.json").exists() and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(0.15)  # the first of them import by now
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.strip() == "flava: stopped"
    while alive(process.pid) and time.monotonic() < end:  # Python's own tracker is the last to go
        time.sleep(0.05)
    assert not alive(process.pid)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
