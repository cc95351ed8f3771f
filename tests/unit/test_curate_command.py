"""``flava data curate`` from its words to a selection that a run reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_curate_duplicates import encoded

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.data.curation.scan import Scan
from flava_plugin.data.shards.selection import Selection
from flava_plugin.data.shards.shard_writer import ShardWriter

SCORES = [0.1, 0.9, 0.5, float("nan"), 0.7, None, 0.3, 0.2]


def picture(number: int, size: tuple[int, int] = (240, 220)) -> Image.Image:
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def shards(folder: Path, per_shard: int = 4) -> Path:
    """Eight pairs: 2 is 0 again, 3 has the picture of 0 a little smaller, 6 a short caption."""
    texts = [f"a picture of number {n} for a test" for n in range(8)]
    texts[2], texts[6] = texts[0], "one"
    pictures = [encoded(picture(n)) for n in range(8)]
    pictures[2] = pictures[0]
    pictures[3] = encoded(picture(0).resize((220, 202)))
    with ShardWriter(folder, "pair", samples_per_shard=per_shard) as writer:
        for text, image, score in zip(texts, pictures, SCORES, strict=True):
            record = {} if score is None else {"clip": score}
            writer.add(image=image, text=text, record=record | {"uid": f"u{text[-12:]}"})
    return folder


def curate(source: Path | str, out: Path, *words: str | Path) -> int:
    return main(["data", "curate", str(source), "--out", str(out), *map(str, words)])


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "curation.json").read_text("utf-8"))
    return found


def kept(source: Path, out: Path) -> list[int]:
    """Which samples are used; the dataset that has the selection reads these and no other."""
    path = out / "selection.safetensors"
    every = registry.datasets.build("webdataset_pairs", path=str(source))
    some = registry.datasets.build("webdataset_pairs", path=str(source), selection=str(path))
    chosen, begins = Selection(path, every.manifest), np.cumsum([0, *every.shard_lengths])
    found = [n for s in range(len(every.manifest)) for n in (chosen.rows(s) + begins[s]).tolist()]
    assert len(some) == len(found) == record(out)["kept"]
    for index, place in enumerate(found):
        assert some.read_raw(index) == every.read_raw(place)
    assert some.coverage == {"curation": record(out)}
    return found


def test_steps_in_their_order(tmp_path: Path) -> None:
    source, out = shards(tmp_path / "s"), tmp_path / "out"
    assert curate(source, out, "--step", "duplicates") == 0
    assert kept(source, out) == [0, 1, 3, 4, 5, 6, 7]
    more = ["--step", "basic", "--step", "near_duplicates", "distance=4"]
    assert curate(source, tmp_path / "b", "--tables", out / "tables", *more) == 0
    assert kept(source, tmp_path / "b") == [0, 1, 4, 5, 7]
    steps = record(tmp_path / "b")["steps"]
    assert [(step["type"], step["in"], step["kept"]) for step in steps] == [
        ("readable", 8, 8),
        ("basic", 8, 7),
        ("near_duplicates", 7, 5),
    ]
    assert steps[1]["report"]["dropped_by"]["min_words"] == 1
    assert steps[2]["report"]["largest_group"] == 3
    clip = ["--tables", out / "tables", "--score", "clip", "record=clip"]
    best = ["--step", "near_duplicates", "prefer=clip"]
    assert curate(source, tmp_path / "c", *clip, *best) == 0
    assert kept(source, tmp_path / "c") == [1, 2, 4, 5, 6, 7]
    for of, expected in (("all", [1, 4]), ("kept", [1])):  # a quarter of 8 or of 7 samples
        steps = ["--step", "basic", "--step", "score", "score=clip", "share=0.25", f"of={of}"]
        assert curate(source, tmp_path / of, *clip, *steps) == 0
        assert kept(source, tmp_path / of) == expected


def test_scores_of_records_and_of_a_file(tmp_path: Path, capsys: Any) -> None:
    source, out = shards(tmp_path / "s"), tmp_path / "a"
    clip = ["--score", "clip", "record=clip"]
    assert curate(source, out, *clip, "--step", "score", "score=clip", "share=0.5") == 0
    assert kept(source, out) == [1, 2, 4, 6]
    assert record(out)["steps"][1]["report"] == {
        "without_score": 2,
        "threshold": pytest.approx(0.3),
    }
    best = ["--step", "duplicates", "same=picture", "prefer=clip"]
    assert curate(source, tmp_path / "b", *clip, *best) == 0
    assert kept(source, tmp_path / "b") == [1, 2, 3, 4, 5, 6, 7]

    with (tmp_path / "dfn.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uid", "dfn"])
        labelled = registry.datasets.build("webdataset_pairs", path=str(source), labels=["uid"])
        for index in range(1, 8):  # 2 has the key of 0
            rows.writerow([labelled.read_raw(index).extra["uid"], index])
        rows.writerow(["unheard of", 3])
    words = ["--key", "uid", "--score", "dfn", f"file={tmp_path / 'dfn.csv'}", "key=uid"]
    assert curate(source, tmp_path / "c", *words, "--step", "score", "score=dfn", "max=5") == 2
    assert "steps.0.score.max" in capsys.readouterr().err
    assert curate(source, tmp_path / "c", *words, "--step", "score", "score=dfn", "min=5") == 0
    assert kept(source, tmp_path / "c") == [5, 6, 7]
    assert record(tmp_path / "c")["scores"]["dfn"]["samples_sharing_a_key"] == 1


def test_a_file_by_names_of_members(tmp_path: Path, capsys: Any) -> None:
    source = shards(tmp_path / "s")
    every = registry.datasets.build("webdataset_pairs", path=str(source))
    names = [every.read_raw(n).name.rpartition(":")[2].partition(".")[0] for n in range(8)]
    assert len(set(names)) == 8
    path = tmp_path / "s.csv"

    def written(lines: Sequence[tuple[object, object]]) -> list[str]:
        path.write_text("\n".join(f"{a},{b}" for a, b in [("key", "v"), *lines]) + "\n")
        return ["--score", "v", f"file={path}", "--step", "score", "score=v", "min=2", "--replace"]

    lines = [(name, n) for n, name in enumerate(names)]
    assert curate(source, tmp_path / "o", *written([*lines[:7], ("more", "x")])) == 0
    assert kept(source, tmp_path / "o") == [2, 3, 4, 5, 6]
    origin = record(tmp_path / "o")["scores"]["v"]
    assert (origin["lines_unused"], origin["samples"], origin["samples_sharing_a_key"]) == (1, 7, 0)
    for bad, named in [
        ([*lines, (names[0], 5)], "lines 1 and 9"),
        ([("other", 1)], "names no sample"),
        ([("a", 1), ("b,c", 2)], "line 3: not 2 columns"),
        ([], "has no line"),
    ]:
        assert curate(source, tmp_path / "o", *written(bad)) == 1
        assert named in capsys.readouterr().err
    path.write_text("name,v\n")
    assert curate(source, tmp_path / "o", *written([])[:-1]) == 1
    pa = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = pyarrow.table({"key": names, "v": [float(n) for n in range(8)]})
    pa.write_table(table, tmp_path / "s.parquet")
    words = ["--score", "v", f"file={tmp_path / 's.parquet'}", "--step", "score", "score=v"]
    assert curate(source, tmp_path / "p", *words, "share=0.25") == 0
    assert kept(source, tmp_path / "p") == [6, 7]


def test_hashes_of_somebody_else(tmp_path: Path, capsys: Any) -> None:
    source = shards(tmp_path / "s")
    every = registry.datasets.build("webdataset_pairs", path=str(source))
    names = [every.read_raw(n).name.rpartition(":")[2].partition(".")[0] for n in range(8)]
    path = tmp_path / "h.csv"
    path.write_text(
        "key,phash\n" + "".join(f"{n},{0xFF if n < names[4] else 0:016x}\n" for n in names)
    )
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        f"steps:\n  - {{type: near_duplicates, distance: 2, hashes: {{file: {path}}}}}\n"
    )
    assert curate(source, tmp_path / "o", "--plan", plan) == 0
    assert kept(source, tmp_path / "o") == [0, 4]
    path.write_text(f"key,phash\n{names[0]},xyz\n")
    assert curate(source, tmp_path / "o", "--plan", plan) == 1
    assert "16 hex digits" in capsys.readouterr().err


def test_the_same_again_gives_the_same_bytes(tmp_path: Path, monkeypatch: Any) -> None:
    source, entries = shards(tmp_path / "s"), tmp_path / "entries.txt"
    entries.write_text("picture\nnumber 4\n")
    words = ["--step", "balance", f"metadata={entries}", "threshold=2", "--seed", "3"]
    assert curate(source, tmp_path / "a", *words) == 0
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir() if p.is_file()}
    assert set(first) == {"selection.safetensors", "curation.json"}
    assert curate(source, tmp_path / "b", "--jobs", "2", *words) == 0
    tables = {
        p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("0*.safet*")
    }
    assert len(tables) == 4
    for name, content in tables.items():
        assert (tmp_path / "b" / name).read_bytes() == content
    monkeypatch.setattr(Scan, "do", None)  # nothing is scanned a second time
    assert curate(source, tmp_path / "a", *words) == 0
    for folder in ("a", "b"):
        for name, content in first.items():
            assert (tmp_path / folder / name).read_bytes() == content
    assert 4 in kept(source, tmp_path / "a")


def test_a_scan_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: Any) -> None:
    source, out = shards(tmp_path / "s", per_shard=2), tmp_path / "o"
    do, done = Scan.do, []

    def until_third(self: Scan, part: int, /) -> None:
        if len(done) == 2:
            raise OSError("disk gone")
        done.append(part)
        do(self, part)

    monkeypatch.setattr(Scan, "do", until_third)
    assert curate(source, out, "--step", "duplicates") == 1
    assert not (out / "curation.json").exists()
    broken = next(out.rglob("000001.safetensors"))
    broken.write_bytes(broken.read_bytes()[:40])
    monkeypatch.setattr(Scan, "do", lambda self, part, /: (done.append(part), do(self, part))[1])
    assert curate(source, out, "--step", "duplicates") == 0
    assert done == [0, 1, 1, 2, 3]
    assert kept(source, out) == [0, 1, 3, 4, 5, 6, 7]


def test_damaged_samples_are_named_and_never_kept(tmp_path: Path, capsys: Any) -> None:
    source = tmp_path / "s"
    with ShardWriter(source, "pair", samples_per_shard=4) as writer:
        for n in range(6):
            whole = encoded(picture(n))
            writer.add(image=whole[:600] if n == 3 else whole, text=f"a picture with number {n}")
    assert curate(source, tmp_path / "o", "--step", "basic") == 0
    assert kept(source, tmp_path / "o") == [0, 1, 2, 4, 5]
    first = record(tmp_path / "o")["steps"][0]
    assert first["faults"] == {"broken picture": 1}
    assert "sample 3" in first["examples"]["broken picture"]
    assert "broken picture 1" in capsys.readouterr().out
