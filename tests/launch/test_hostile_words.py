"""Words that a shell, YAML, SLURM or a file system could take for something else."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from flava_plugin.launch import ledger
from flava_plugin.launch.cluster import load_profile
from flava_plugin.launch.cluster_values import dependency, minutes
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.small_runs import flags_of, profile, recipe, submit

Capture = pytest.CaptureFixture[str]

WORDS = [
    "two words",
    "it's",
    'a "quote"',
    "a$(touch /nowhere)b",
    "`x`; exit 9 #",
    "日本 é",
    "a&&b|c>d",
]


@pytest.mark.parametrize("word", WORDS)
def test_a_value_reaches_sbatch_and_the_processes_as_it_is(
    word: str, slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--env", f"A={word}", "--comment", word, f"--name={word}"]
    assert submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path), *words).code == 0
    flags = flags_of(slurm.script)
    assert shlex.split(flags["job-name"]) == [word]
    assert shlex.split(flags["comment"]) == [f"{word} flava:{tmp_path}/run"]
    (line,) = [line for line in slurm.script.splitlines() if line.startswith("export A=")]
    command = ["bash", "-c", f'{line}; printf %s "$A"']
    assert subprocess.run(command, capture_output=True, check=True).stdout.decode() == word


@pytest.mark.parametrize("name", ["two words", "it's", "a #1", "b: c", "[x]", "日本", "-x", "{a}"])
def test_a_sweep_keeps_its_elements_below_a_folder_of_any_name(
    name: str, slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    base = tmp_path / name
    words = ["--cluster", profile(tmp_path), "--sweep", "seed=1,2"]
    said = submit(capsys, recipe(tmp_path, run_dir=str(base)), *words)
    assert said.code == 0, said.err
    assert [entry.run for entry in ledger.entries(base)] == [f"{base}/seed=1", f"{base}/seed=2"]


REFUSED = [
    (["--dependency", "afterok:1\n"], "--dependency: "),
    (["--env", "A\n=x"], "--env A\n: is no name"),
    (["--sbatch", "hold\n"], "is no long option"),
    (["--env", "A=\udcff"], "--env A: should be UTF-8"),
    (["--name", "\udcff"], "--name: should be UTF-8"),
    (["--nodes", "1-100000000"], "--nodes: should be at most"),
    (["--nodes", "0"], "--nodes: "),
    (["--nodes=-1"], "--nodes: "),
    (["--nodes", "1-"], "--nodes: "),
    (["--nodes", "2-1"], "--nodes: "),
    (["--nodes", "1e3"], "--nodes: "),
    (["--mem-gb", "inf"], "--mem-gb: "),
    (["--mem-gb", "nan"], "--mem-gb: "),
    (["--mem-gb", "64X"], "--mem-gb: "),
    (["--mem", "64000"], "--mem-gb: should be at most 24576 GB; with a unit MB"),
    (["--time", "99999999999"], "--time: "),
    (["--setup", "echo 'open"], "setup: bash cannot read"),
    (["--python", "python $(x"], "python: bash cannot read"),
    (["--job-dir", "/proc/x"], "--job-dir: "),
    (["--job-dir", "/dev/null"], "--job-dir: "),
    (["--job-dir", "a%u"], "--job-dir: "),
    (["--cluster", "x" * 5000], "--cluster: "),
    (["--sweep", "optim.lr=" + "1" * 300 + ",2"], "--sweep: "),
    (["--sweep", " run_dir=a,b"], "has a folder of its own"),
    (["run_dir=a\\\\b"], "run_dir: "),
    (["run_dir=" + "x" * 300], "run_dir: "),
    (["--eval", "--checkpoint", "²"], "--checkpoint: "),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_would_break_the_batch_script_is_refused(
    words: list[str],
    expected: str,
    slurm: FakeSlurm,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path), *words)
    assert said.code == 2, said.err
    assert expected in said.err
    assert not slurm.calls("sbatch")


def test_files_that_are_no_profile_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "null").write_bytes(b"time: 5\0")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    for name, text in [
        ("pipe", "is no file"),
        ("zero", "is no file"),
        (".", "is no file"),
        ("binary", "is not UTF-8 text"),
        ("null", "null: "),
        ("huge", "no profile is larger"),
    ]:
        _, errors, _ = load_profile(str(tmp_path / name), {})
        assert len(errors) == 1
        assert text in errors[0]


@pytest.mark.parametrize(
    "text", ["{time: 24:00:00, nodes: 1}", '"time": 24:00:00', "nodes: 1\ntime:\n  24:00:00"]
)
def test_a_walltime_is_read_as_written_in_every_style_of_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    found, errors, _ = load_profile(str(tmp_path / "x.yaml"), {})
    assert not errors
    assert found.time == 24 * 60


def test_a_strange_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text('"a[b": 1\n"": 2\n')
    _, errors, _ = load_profile(str(tmp_path / "x.yaml"), {})
    assert len(errors) == 2
    assert "a[b: unknown key" in errors[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("1:00:00", 60), ("1-0", 1440), ("1-2", 1560),
     ("1-2:30", 1590), ("1-02:30:01", 1591)],
)  # fmt: skip
def test_a_walltime_in_each_of_sbatchs_forms(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("text", "script"),
    [("64", "64G"), ("64G", "64G"), ("1.5", "1536M"), ("500M", "500M"), ("1T", "1024G")],
)
def test_memory_with_a_unit_is_sbatchs(
    text: str, script: str, slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--cluster", profile(tmp_path), "--mem-gb", text]
    assert submit(capsys, recipe(tmp_path), *words).code == 0
    assert flags_of(slurm.script)["mem"] == script


def test_a_dependency_is_a_single_line() -> None:
    with pytest.raises(ValueError, match="afterok:123"):
        dependency("singleton\n")


def test_the_same_error_of_every_element_is_said_once(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--cluster", profile(tmp_path), "--dry-run", "--sweep", "no.such=1,2,3"]
    said = submit(capsys, recipe(tmp_path), *words)
    assert said.code == 2
    assert said.err.count("unknown key") == 1
    assert "[no.such=1 and 2 more] " in said.err
    assert said.err.count("looks local to one machine") <= 1


def test_elements_that_are_the_same_run_are_refused(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--cluster", profile(tmp_path), "--sweep", "optim.lr=0.1,0.2,1e-1"]
    said = submit(capsys, recipe(tmp_path), *words)
    assert said.code == 2
    assert "--sweep: 'optim.lr=0.1' and 'optim.lr=1e-1' are the same run" in said.err
