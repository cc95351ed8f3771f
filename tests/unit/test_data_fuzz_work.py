"""Damaged work files of pack and curate: made anew or refused in words; the result is whole."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from flava_plugin.cli.main import main
from flava_plugin.data.shards.packing_part import Part, entry_of, write_record
from tests.unit.picture_trees import captioned, digests
from tests.unit.test_data_fuzz import damage, deadline

TRIALS = 40
TRIALS_SOAKED = 400

PLAN = """
seed: 3
scores: {a: {file: FILE}}
steps:
  - {type: basic, min_words: 1, min_side: 0}
  - {type: score, score: a, share: 0.5}
  - {type: near_duplicates, distance: 4, prefer: a}
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    path = captioned(folder / "pairs", 12)
    words = ["--out", str(folder / "shards"), "--samples-per-shard", "4", "--shuffle", "none"]
    assert main(["data", "pack", "jsonl_pairs", f"path={path}", *words]) == 0
    return folder / "shards"


@pytest.mark.parametrize("trials", [TRIALS, pytest.param(TRIALS_SOAKED, marks=pytest.mark.soak)])
def test_what_a_stopped_pack_left(
    trials: int, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "pack", str(shards), "labels=[picture]", "--samples-per-shard", "5"]
    whole, stopped, place = tmp_path / "whole", tmp_path / "stopped", tmp_path / "place"
    assert main([*words, "--out", str(whole)]) == 0
    stop(words, stopped)
    left = [file for file in stopped.rglob("*") if file.is_file() and file.stat().st_size]
    assert {file.suffix for file in left} >= {".tar", ".idx", ".json"}
    for trial in range(trials):
        chance = random.Random(trial)
        shutil.copytree(stopped, place)
        file = place / chance.choice(sorted(left)).relative_to(stopped)
        sound = file.suffix == ".tar" or file.name.endswith(".idx")
        data = damage(file.read_bytes(), chance)
        if not sound:  # what a tar holds is for 'flava data check' to say; its size shows here
            file.write_bytes(data)
        else:
            file.write_bytes(file.read_bytes()[:-512])
        with deadline(f"trial {trial}"):
            code = main([*words, "--out", str(place)])
        said = capsys.readouterr().err
        if code == 0:
            assert digests(place) == digests(whole), f"trial {trial}"
        else:
            assert code == 2 and "flava data pack: " in said and str(place) in said
        shutil.rmtree(place)


def stop(words: list[str], folder: Path) -> None:
    """Pack as if it had been stopped before the list of shards was written."""
    assert main([*words, "--out", str(folder)]) == 0
    about = json.loads((folder / "pack.json").read_text("utf-8"))
    (folder / "pack.json").write_text(json.dumps({**about, "result": None}), "utf-8")
    (folder / "shards.index").unlink()
    (folder / ".pack").mkdir()
    for part, tar in enumerate(sorted(folder.glob("*.tar"))):
        whole = Part((entry_of(folder, tar.name),), ())
        write_record(folder / ".pack", part, whole)


@pytest.mark.parametrize("trials", [TRIALS, pytest.param(TRIALS_SOAKED, marks=pytest.mark.soak)])
def test_plans_scores_and_tables(
    trials: int, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, plan, out = tmp_path / "scores.csv", tmp_path / "plan.yaml", tmp_path / "out"
    lines = ["key,a", *(f"{number:09d},{number / 7}" for number in range(12))]
    scores.write_text("\n".join(lines) + "\n", "utf-8")
    plan.write_text(PLAN.replace("FILE", str(scores)), "utf-8")
    words = ["data", "curate", str(shards), "--plan", str(plan), "--out", str(out), "--replace"]
    assert main(words) == 0
    sound = tmp_path / "sound"
    shutil.copytree(out, sound)
    source = digests(shards)
    for trial in range(trials):
        chance = random.Random(trial)
        kept = {file: file.read_bytes() for file in (scores, plan)}
        file = chance.choice([scores, plan, *sorted(out.rglob("*.safetensors"))])
        file.write_bytes(damage(file.read_bytes(), chance))
        with deadline(f"trial {trial}, {file.name}"):
            code = main(words)
        said = capsys.readouterr().err
        assert code in (0, 1, 2) and "Traceback" not in said
        assert code == 0 or "flava data curate: " in said
        for path, content in kept.items():
            path.write_bytes(content)
        shutil.rmtree(out)
        shutil.copytree(sound, out)
    assert digests(shards) == source
