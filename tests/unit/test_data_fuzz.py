"""Damaged files of every layout: refused, or left out by name and counted; nothing else happens."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flava_plugin import registry
from flava_plugin.cli.data_sources import name_dataset
from flava_plugin.cli.main import main
from flava_plugin.data.decoding import FAILURES
from flava_plugin.data.raw_reading import look_at
from tests.unit.layout_words import KINDS, words_of
from tests.unit.picture_trees import digests

DEADLINE = 20
"""Seconds of a trial; a sound one takes a tenth of one."""

JUNK = (b"\0", b"\xff\xfe", b'"', b"[", b"{", b"\n", b"\r", b"\t", b",", b"9" * 5000, b"\\ud800")
STRANGE: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1e300, "", "  ", "\ud800", "a\0b", "/etc/passwd", "../x.jpg"),
    *([], [[]], {}, {"a": 1}, ["x"] * 3, "x" * 70_000),
)
"""Values in the place of those that belong there."""

EACH_KIND = 16
EACH_KIND_SOAKED = 150


@contextmanager
def deadline(what: str) -> Iterator[None]:
    def late(number: int, frame: Any) -> None:
        raise AssertionError(f"{what}: hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage(data: bytes, chance: random.Random) -> bytes:
    """Cut off, turn over, put in, take out, repeat."""
    if not data:
        return chance.choice(JUNK)
    places = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    first, second = places[0], min(places[1], places[0] + 400)
    how = chance.randrange(6)
    if how == 0:
        return data[:first]
    if how == 1:
        return data[:first] + data[second:]
    if how == 2:
        return data[:first] + chance.choice(JUNK) + data[first:]
    if how == 3:
        return data[:first] + data[first:second] * 3 + data[second:]
    if how == 4:
        return data[:first] + chance.randbytes(second - first) + data[second:]
    turned = bytearray(data)
    for _ in range(chance.choice((1, 5, 30))):
        turned[chance.randrange(len(turned))] ^= 1 << chance.randrange(8)
    return bytes(turned)


def twist(value: Any, chance: random.Random) -> Any:
    """Put a strange value, or none, somewhere into JSON."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(STRANGE)
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    key: Any = chance.choice(list(keys))
    if chance.random() < 0.1:
        del value[key]
    else:
        value[key] = twist(value[key], chance)
    return value


def twisted(file: Path, chance: random.Random) -> bytes:
    """A JSON file, or a line of JSON lines, with a strange value in it."""
    if file.suffix == ".json":
        return json.dumps(twist(json.loads(file.read_bytes()), chance)).encode()
    rows = file.read_bytes().splitlines(keepends=True)
    row = chance.randrange(len(rows))
    rows[row] = json.dumps(twist(json.loads(rows[row]), chance)).encode() + b"\n"
    return b"".join(rows)


def lines_of(kind: str, options: dict[str, Any]) -> int | None:
    """Lines of a table that gives one sample a line; None for the other layouts."""
    if kind not in ("cc3m", "cc12m", "manifest_pairs"):
        return None
    path = Path(options["path"])
    data = path.read_bytes() if path.is_file() else b""
    return data.count(b"\n") + bool(data) * (not data.endswith(b"\n"))


def spoil(tree: Path, chance: random.Random) -> None:
    """Damage one file, which is a picture in one of three trials; sometimes take it away."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    pictures = [p for p in files if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    others = [path for path in files if path not in pictures]
    file = chance.choice(pictures if pictures and (not others or chance.random() < 0.3) else others)
    if chance.random() < 0.03:
        file.unlink()
    elif file.suffix in (".json", ".jsonl") and chance.random() < 0.7:
        file.write_bytes(twisted(file, chance))
    else:
        file.write_bytes(damage(file.read_bytes(), chance))


@pytest.mark.parametrize(
    "trials", [EACH_KIND, pytest.param(EACH_KIND_SOAKED, marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_sources(
    kind: str, trials: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the words hold paths, so that each trial has the tree at the same place
    tree, sound = tmp_path / "in", tmp_path / "sound"
    words = words_of(kind, tree)
    shutil.copytree(tree, sound)
    for trial in range(trials):
        shutil.rmtree(tree)
        shutil.copytree(sound, tree)
        chance = random.Random(f"{kind} {trial}")
        spoil(tree, chance)
        before = digests(tmp_path)
        with deadline(f"{kind}, trial {trial}"):
            look_through(words)
            if trial % 8 == 0:
                run_commands(words, tmp_path / "out", capsys)
        assert digests(tmp_path) == before, f"{kind}, trial {trial}: wrote into its source"


def look_through(words: list[str]) -> None:
    """Build and read all: what cannot be built is refused, what is left out is counted."""
    name, options = name_dataset(words[0], words[1:])
    try:
        dataset = registry.datasets.build(name, **options)
    except FAILURES as error:
        assert str(error)
        return
    lines, coverage = lines_of(name, options), getattr(dataset, "coverage", None)
    if lines is not None:
        assert coverage is not None
        counted = coverage["samples"] + sum(coverage["dropped"].values())
        # a line of JSON may come to hold several captions
        assert lines == counted or (name == "manifest_pairs" and lines < counted)
    if coverage is not None:
        assert coverage["samples"] == len(dataset)
    for index in range(len(dataset)):
        looked = look_at(
            dataset, index, dataset.kind if name != "imagenet" else "image", decoded=True
        )
        assert looked.reason or looked.raw.image or looked.raw.text


def run_commands(words: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check, count, pack and curate; codes are those of the command line, and counts add up."""
    codes = {
        name: main(["data", name, *words, *more])
        for name, more in (
            ("check", ["--json"]),
            ("stats", []),
            ("pack", ["--out", str(out), "--budget", "100%", "--samples-per-shard", "5"]),
            ("curate", ["--out", f"{out}-best", "--step", "duplicates", "same=picture"]),
        )
    }
    said = capsys.readouterr()
    assert set(codes.values()) <= {0, 1, 2}, codes
    assert "Traceback" not in said.err
    for name, code in codes.items():
        assert code == 0 or f"flava data {name}" in said.err or name == "check"
    if codes["pack"] == 0:
        about = json.loads((out / "pack.json").read_text("utf-8"))
        result = about["result"]
        left_out = sum(result["left_out"].values())
        assert result["samples"] + left_out == about["plan"]["samples"]
        named = out / "left_out.jsonl"
        assert left_out == (len(named.read_text("utf-8").splitlines()) if left_out else 0)
    for place in (out, Path(f"{out}-best")):
        shutil.rmtree(place, ignore_errors=True)
