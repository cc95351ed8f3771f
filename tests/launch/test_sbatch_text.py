from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.launch.fake_slurm import FakeSlurm
from tests.launch.small_runs import flags_of, profile, recipe, submit

KEYS: list[tuple[str, Any, dict[str, str]]] = [
    ("partition", "a,b", {"partition": "a,b"}),
    ("account", "group", {"account": "group"}),
    ("qos", "high", {"qos": "high"}),
    ("nodes", 4, {"nodes": "4"}),
    ("gpus_per_node", 2, {"gpus-per-node": "2"}),
    ("tasks_per_node", 1, {"ntasks-per-node": "1"}),
    ("cpus_per_task", 7, {"cpus-per-task": "7"}),
    ("mem_gb", 0, {"mem": "0G"}),
    ("mem_gb", 1.5, {"mem": "1536M"}),
    ("time", "1-00:00:00", {"time": "1440"}),
    ("constraint", "a100|h100", {"constraint": "'a100|h100'"}),
    ("exclude", "n[1-2]", {"exclude": "'n[1-2]'"}),
    ("nodelist", "n3", {"nodelist": "n3"}),
    ("exclusive", True, {"exclusive": ""}),
    ("reservation", "r", {"reservation": "r"}),
    ("signal_delay_s", 77, {"signal": "USR2@77"}),
    ("sbatch", {"mail_type": "END", "nice": 5, "hold": True},
     {"mail-type": "END", "nice": "5", "hold": ""}),
    ("requeues", 3, {"requeue": ""}),
    ("requeues", 0, {"no-requeue": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), KEYS, ids=lambda v: str(v))
def test_a_key_becomes_its_option(
    key: str,
    value: Any,
    expected: dict[str, str],
    slurm: FakeSlurm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = profile(tmp_path, **{key: value})
    said = submit(capsys, recipe(tmp_path), "--cluster", path, "--dry-run", "steps=3")
    assert said.code == 0, said.err
    assert expected.items() <= flags_of(said.out).items()


FLAGS = [
    (["--nodes", "4"], {"nodes": "4"}),
    (["--nodes", "1-2"], {"nodes": "1-2", "cpus-per-task": "2"}),
    (["--ngpus", "4"], {"gpus-per-node": "4"}),
    (["--gpus-per-node", "2"], {"gpus-per-node": "2"}),
    (["--tasks-per-node", "4"], {"ntasks-per-node": "4"}),
    (["--cpus-per-task", "3"], {"cpus-per-task": "3"}),
    (["--mem-gb", "8"], {"mem": "8G"}),
    (["--timeout", "30"], {"time": "30"}),
    (["--time", "02:00:00"], {"time": "120"}),
    (["--partition", "p"], {"partition": "p"}),
    (["--account", "a"], {"account": "a"}),
    (["--qos", "q"], {"qos": "q"}),
    (["--constraint", "volta"], {"constraint": "volta"}),
    (["--exclude", "n1"], {"exclude": "n1"}),
    (["--nodelist", "n1"], {"nodelist": "n1"}),
    (["--exclusive"], {"exclusive": ""}),
    (["--reservation", "r"], {"reservation": "r"}),
    (["--name", "mine"], {"job-name": "mine"}),
    (["--job-name", "mine"], {"job-name": "mine"}),
    (["--dependency", "afterok:7"], {"dependency": "afterok:7", "kill-on-invalid-dep": "yes"}),
    (["--signal-delay", "99"], {"signal": "USR2@99"}),
    (["--requeues", "0"], {"no-requeue": ""}),
    (["--sbatch", "nice=3", "--sbatch", "hold"], {"nice": "3", "hold": ""}),
]


@pytest.mark.parametrize(("words", "expected"), FLAGS, ids=lambda v: str(v))
def test_a_flag_becomes_its_option(
    words: list[str],
    expected: dict[str, str],
    slurm: FakeSlurm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = submit(
        capsys, recipe(tmp_path, device="auto"), "--cluster", profile(tmp_path), *words, "--dry-run"
    )
    assert said.code == 0, said.err
    assert expected.items() <= flags_of(said.out).items()


def test_the_lines_of_the_script_stand_in_their_order(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = profile(
        tmp_path,
        setup=["module load 'a b'"],
        environment={"WORDS": "two $words", "N": 1},
        srun=["--kill-on-bad-exit=1", "--cpu-bind=none"],
        python="singularity exec x.sif python",
        comment="for you",
    )
    said = submit(capsys, recipe(tmp_path), "--cluster", path, "--dry-run")
    lines = said.out.splitlines()
    wanted = ["export WORDS='two $words'", "export N=1", "module load 'a b'"]
    places = [lines.index(line) for line in wanted]
    (srun,) = [line for line in lines if line.startswith("srun ")]
    assert places == sorted(places)
    assert places[-1] < lines.index(srun) < lines.index('exit "$flava_code"')
    assert "--kill-on-bad-exit=1 --cpu-bind=none singularity exec x.sif python -u" in srun
    assert srun.endswith(f"{tmp_path}/run/logs/%j")
    assert flags_of(said.out)["comment"] == f"'for you flava:{tmp_path}/run'"
    assert flags_of(said.out)["job-name"] == "flava-run"


def test_the_default_python_is_this_one_and_processes_end_together(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path), "--dry-run")
    assert f"--kill-on-bad-exit=1 {sys.executable} -u -m submitit.core._submit" in said.out


def test_a_job_dir_is_where_the_logs_go(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cluster", profile(tmp_path), "--job-dir", tmp_path / "elsewhere", "--dry-run"]
    said = submit(capsys, recipe(tmp_path), *words)
    assert flags_of(said.out)["output"] == f"{tmp_path}/elsewhere/%j/%j_0_log.out"


def test_a_dry_run_shows_every_check_calls_no_sbatch_and_writes_nothing(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path)]
    before = sorted(tmp_path.rglob("*"))
    dry = submit(capsys, *words, "--dry-run")
    after = sorted(path for path in tmp_path.rglob("*") if path.name != "calls")
    assert dry.code == 0
    assert after == before
    assert not slurm.calls("sbatch")
    for subject in (
        *("global batch", "sharding", "GPUs", "cores", "run_dir", "data", "checkpoint", "pace"),
        *("other jobs", "walltime", "partition", "account and qos"),
    ):
        assert f"  {subject}: " in dry.err, subject
    assert submit(capsys, *words).code == 0
    assert slurm.script == dry.out.removesuffix("\n")


def test_a_dry_run_needs_no_slurm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path)]
    monkeypatch.setenv("PATH", str(tmp_path))
    said = submit(capsys, *words, "--dry-run")
    assert said.code == 0
    assert "not known  SLURM: sbatch and srun not found" in said.err
    assert "#SBATCH --partition=gpu" in said.out
    assert submit(capsys, *words).code == 2
