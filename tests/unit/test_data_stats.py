"""``flava data stats``: figures that were worked out by hand, and a sheet to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flava_plugin.cli.main import main
from flava_plugin.data.contact_sheet import Exhibit, _font, contact_sheet, wrap
from flava_plugin.data.statistics import choose
from flava_plugin.data.statistics_report import (
    duplicates,
    most_repeated,
    padding_waste,
    summary_of,
)
from tests.unit.picture_trees import captioned, classes, noise


def stats(*words: object) -> int:
    return main(["data", "stats", *map(str, words)])


def figures(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    assert stats(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five pairs, the last two the same, the fourth with a caption of the second."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    sizes = [(40, 20), (20, 40), (30, 30), (10, 10)]
    for number, (width, height) in enumerate(sizes):
        noise(number, width, height).save(folder / f"{number}.{'png' if number < 3 else 'jpg'}")
    rows = [
        ("0.png", "A red cat, asleep."),
        ("1.png", "the Cat"),
        ("2.png", "ca\u00f1a"),
        ("3.jpg", "the Cat"),
        ("3.jpg", "the Cat"),
    ]
    lines = [json.dumps({"image": name, "caption": text}) for name, text in rows]
    (folder / "captions.jsonl").write_text("\n".join(lines), "utf-8")
    return folder / "captions.jsonl"


def test_figures_by_hand(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "jsonl_pairs", f"path={pairs}")
    assert found["samples"] == found["read"] == 5 and found["unreadable"] == {}
    texts = found["texts"]
    assert texts["number"] == 5 and texts["duplicates"] == 2
    assert texts["words"]["mean"] == pytest.approx((4 + 2 + 1 + 2 + 2) / 5)
    assert (texts["words"]["min"], texts["words"]["p50"], texts["words"]["max"]) == (1, 2, 4)
    assert texts["characters"] == pytest.approx((18 + 7 + 4 + 7 + 7) / 5)
    assert texts["bytes"] == 18 + 7 + 5 + 7 + 7
    assert texts["ascii_share"] == pytest.approx(42 / 43, abs=1e-4)
    assert texts["vocabulary"] == len({"a", "red", "cat", "asleep", "the", "ca\u00f1a"})
    assert texts["most_repeated"] == [["the Cat", 3]]
    pictures = found["pictures"]
    assert pictures["formats"] == {"png": 3, "jpg": 2} and pictures["duplicates"] == 1
    assert pictures["width"]["mean"] == (40 + 20 + 30 + 10 + 10) / 5
    assert pictures["aspect"]["max"] == 2 and pictures["aspect"]["min"] == 0.5
    assert pictures["shorter_side"]["max"] == 30
    names = ("0.png", "1.png", "2.png", "3.jpg", "3.jpg")
    assert pictures["bytes"] == sum((pairs.parent / name).stat().st_size for name in names)
    assert found["pairs"] == {"number": 5, "duplicates": 1}


def test_shards_give_the_figures_of_what_was_packed(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    assert main(["data", "pack", "jsonl_pairs", f"path={pairs}", "--out", str(out)]) == 0
    here = figures(capsys, out)
    assert here == figures(capsys, "jsonl_pairs", f"path={pairs}")
    assert here == figures(capsys, out, "--jobs", 2)


def test_tokens_and_padding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    (tmp_path / "text.txt").write_text("a\na b\na b a b\n" + "a " * 8 + "\n", "utf-8")
    found = figures(
        capsys,
        *("text_lines", f"path={tmp_path / 'text.txt'}", "--vocab", tmp_path / "vocab.txt"),
        *("--length", 6, "--batch", 2),
    )["tokens"]
    assert found["length"]["mean"] == (3 + 4 + 6 + 10) / 4
    assert found["cut_off"] == 1 and found["most"] == 6
    assert sum(found["histogram"]["texts"]) == 4
    assert found["padding"]["to_most"] == pytest.approx(1 - 19 / 24, abs=1e-4)
    # sorted: (3, 4) and (6, 6)
    buckets = found["padding"]["to_longest_of_batch_in_buckets_of_64"]
    assert buckets == pytest.approx(1 - 19 / 20, abs=1e-4)
    assert found["padding"]["to_longest_of_batch"] >= buckets


def test_padding_waste_by_hand() -> None:
    assert padding_waste(np.array([1, 3, 2, 2, 5]), 2) == pytest.approx(1 - 13 / 15, abs=1e-4)


def test_small_parts() -> None:
    hashes = np.array([5, 7, 5, 9, 7, 7], np.uint64)
    assert duplicates(hashes) == 3
    assert most_repeated(hashes, 9) == [(1, 3), (0, 2)]
    assert summary_of(np.arange(101))["p95"] == 95
    chosen = choose(10**9, 50, 3)
    assert chosen is not None and len(set(chosen.tolist())) == 50
    assert np.array_equal(chosen, choose(10**9, 50, 3))  # type: ignore[arg-type]
    assert choose(50, 50, 3) is None


def test_a_sample_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert stats("shapes_pairs", "size=300", "--sample", 20) == 0
    assert "300, 20 of them read" in capsys.readouterr().out


def test_damage_is_counted_and_all_damaged_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = captioned(tmp_path, 4)
    (tmp_path / "001.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "002.webp").unlink()
    found = figures(capsys, "jsonl_pairs", f"path={path}")
    assert found["unreadable"] == {"broken picture": 1, "no picture": 1}
    assert found["texts"]["number"] == 2
    (tmp_path / "000.jpg").unlink()
    (tmp_path / "003.jpg").write_bytes(b"gone")
    (tmp_path / "000.jpg").touch()
    assert stats("jsonl_pairs", f"path={path}", "--kind", "pair") == 1
    assert "no sample can be read" in capsys.readouterr().err


def test_report_and_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = classes(tmp_path / "in", 8)
    report, sheet = tmp_path / "report.json", tmp_path / "sheet.png"
    assert stats(tree, "--report", report, "--sheet", sheet, "--sheet-samples", 5) == 0
    assert json.loads(report.read_text("utf-8"))["pictures"]["number"] == 8
    with Image.open(sheet) as drawn:
        assert drawn.format == "PNG" and drawn.width == 5 * 256 + 16
        assert len(drawn.convert("RGB").getcolors(1 << 24) or []) > 500, "pictures are on it"
    said = capsys.readouterr().out
    assert "texts" not in said and "pictures    8" in said


@pytest.mark.parametrize(
    "exhibits",
    [
        [Exhibit(None, "a text alone " * 30, 3)],
        [Exhibit(noise(1, 300, 20), "", 0), Exhibit(None, "broken picture", 1)],
        [Exhibit(noise(1, 1, 900), "\u4e2d" * 400 + "\x00\n\u202e", 10**9)],
        [],
    ],
)
def test_any_exhibit_can_be_drawn(exhibits: list[Exhibit]) -> None:
    sheet = contact_sheet(exhibits, "t" * 500)
    assert sheet.mode == "RGB" and sheet.width > 200


@pytest.mark.parametrize("text", ["one two three " * 40, "x" * 500, "short", "", "\u4e2d" * 300])
def test_captions_are_wrapped_to_the_tile(text: str) -> None:
    font = _font(15)
    lines = wrap(text, font, 240, 4)
    assert len(lines) <= 4 and all(font.getlength(line) <= 240 for line in lines)
    if len(text) > 200:
        assert lines[-1].endswith("\u2026")
    else:
        assert " ".join(lines) == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shapes_pairs", "--sheet", "sheet.jpg"], "name a .png file"),
        (["shapes_pairs", "--report", "/nowhere/x.json"], "no such folder"),
        (["shapes_pairs", "--vocab", "/nowhere/vocab.txt"], "vocab"),
        (["nowhere"], "no dataset named 'nowhere'"),
    ],
)
def test_refusals(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stats(*words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
