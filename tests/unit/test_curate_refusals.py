"""What cannot be done is said in a line each, before or instead of doing something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_curate_command import curate, kept, shards

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.data.curation.parts import PART, parts_of
from flava_plugin.data.curation.sections import read_plan
from flava_plugin.data.curation.work import do_parts


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards(tmp_path_factory.mktemp("refused") / "s")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "nothing to do"),
        (["--step", "dedupe"], "steps.0: Input tag 'dedupe'"),
        (["--step", "basic", "min_words"], "no key=value"),
        (["--step", "basic", "min_words=-1"], "steps.0.basic.min_words"),
        (["--step", "score", "score=clip", "share=0.5"], "no score 'clip' under scores"),
        (["--score", "clip", "--step", "basic"], "scores.clip: Value error, give one of record"),
        (["--score", "a/b", "record=x", "--step", "basic"], "scores.a/b"),
        (["--score", "a", "record=x", "--score", "a", "run=y", "--step", "basic"], "twice"),
        (["--step", "near_duplicates", "distance=9"], "steps.0.near_duplicates.distance"),
        (["--step", "balance"], "steps.0.balance.metadata: Field required"),
        (["--step", "balance", "metadata=x", "threshold=5", "tail=0.1"], "threshold or tail"),
        (["--score", "a", "run=none", "--step", "score", "score=a", "min=0"], "no run here"),
        (["--plan", "none.yaml"], "No such file"),
        (["--plan", "none.yaml", "--seed", "1"], "--seed: stands in the --plan"),
    ],
)
def test_words_that_are_refused(
    source: Path, tmp_path: Path, capsys: Any, words: list[str], named: str
) -> None:
    assert curate(source, tmp_path / "o", *words) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--step", "balance", "metadata=none.txt"],
        ["--score", "a", "file=none.csv", "--step", "score", "score=a", "min=0"],
        ["--step", "near_duplicates", "hashes={file: none.csv}"],
    ],
)
def test_files_that_are_missing_are_told_before_the_scan(
    source: Path, tmp_path: Path, capsys: Any, words: list[str]
) -> None:
    assert curate(source, tmp_path / "o", *words) == 2
    error = capsys.readouterr().err
    assert "none." in error and "no such file" in error
    assert not (tmp_path / "o").exists(), "a scan may take hours"


def test_scores_that_no_sample_has(source: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["--score", "a", "record=none", "--step", "score", "score=a", "min=0"]
    assert curate(source, tmp_path / "o", *words) == 1
    assert "has the score 'a'" in capsys.readouterr().err
    assert not (tmp_path / "o/curation.json").exists()


def test_a_file_for_a_folder_and_the_source_for_the_target(
    source: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    assert curate(source, tmp_path / "file", "--step", "duplicates") == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    assert curate(source, source, "--step", "duplicates") == 2
    assert "belongs to what is read" in capsys.readouterr().err


def test_all_errors_of_a_plan_at_once() -> None:
    data = {
        "seed": True,
        "steps": [
            {"type": "basic", "min_side": "x"},
            {"type": "score", "score": "s", "share": 2},
            {"type": "balance", "metadata": "m", "thresh": 3},
        ],
    }
    with pytest.raises(ValueError, match="seed") as refused:
        read_plan(data, "plan.yaml")
    lines = str(refused.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("plan.yaml: ") for line in lines)


def test_an_empty_list_and_nothing_left(source: Path, tmp_path: Path, capsys: Any) -> None:
    entries = tmp_path / "entries.txt"
    entries.write_text("\n")
    words = ["--step", "balance", f"metadata={entries}"]
    assert curate(source, tmp_path / "o", *words) == 1
    assert "has no entry" in capsys.readouterr().err
    entries.write_text("zebra\n")
    assert curate(source, tmp_path / "o", *words) == 1
    assert "no sample is left" in capsys.readouterr().err
    chosen = str(tmp_path / "o/selection.safetensors")
    with pytest.raises(ValueError, match="lists no sample"):
        registry.datasets.build("webdataset_pairs", path=str(source), selection=chosen)


def test_another_plan_does_not_write_over(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "o"
    assert curate(source, out, "--step", "duplicates") == 0
    before = (out / "curation.json").read_bytes()
    assert curate(source, out, "--step", "basic") == 2
    assert "--replace" in capsys.readouterr().err
    assert (out / "curation.json").read_bytes() == before
    assert curate(source, out, "--step", "duplicates", "--seed", "0") == 0
    assert curate(source, out, "--step", "basic", "--replace") == 0
    assert kept(source, out) == [0, 1, 2, 3, 4, 5, 7]
    chosen = str(out / "selection.safetensors")
    words = ["webdataset_pairs", f"path={source}", f"selection={chosen}", "--step", "basic"]
    assert main(["data", "curate", *words, "--out", str(tmp_path / "p")]) == 2
    assert "has a selection already" in capsys.readouterr().err
    with pytest.raises(ValueError, match="selection"):
        spec = {"type": "webdataset_pairs", "path": str(source)}
        registry.datasets.build("selected", dataset=spec, selection=chosen)


def test_a_record_of_another_selection_is_not_believed(source: Path, tmp_path: Path) -> None:
    assert curate(source, tmp_path / "a", "--step", "basic") == 0
    assert curate(source, tmp_path / "b", "--step", "duplicates") == 0
    chosen = tmp_path / "a/selection.safetensors"

    def coverage() -> Any:
        options = {"path": str(source), "selection": str(chosen)}
        return registry.datasets.build("webdataset_pairs", **options).coverage["curation"]

    assert coverage()["kept"] == 7
    chosen.with_name("curation.json").write_bytes((tmp_path / "b/curation.json").read_bytes())
    assert "of another selection" in coverage()
    chosen.with_name("curation.json").write_text("[1]")
    assert "no curation.json" in coverage()


def test_parts_of_a_dataset_without_shards() -> None:
    dataset = registry.datasets.build("shapes_sentences", size=PART + 5)
    parts = parts_of(dataset)
    assert [parts.indices(n) for n in range(len(parts))] == [range(PART), range(PART, PART + 5)]
    assert parts.content(0) != parts.content(1)
    other = parts_of(registry.datasets.build("shapes_sentences", size=PART + 6))
    assert other.manifest.fingerprint != parts.manifest.fingerprint


class Fatal:
    """Work whose second part ends its process."""

    def todo(self) -> list[int]:
        return [0, 1, 2]

    def do(self, part: int, /) -> None:
        import os

        if part:
            os._exit(9)


def test_a_killed_process_is_named() -> None:
    with pytest.raises(OSError, match="fewer --jobs"):
        do_parts(Fatal(), 3, 2)
