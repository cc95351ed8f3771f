"""What ``flava submit`` leaves behind when sbatch takes, or refuses, a job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flava_plugin.launch import ledger, sweep
from flava_plugin.strict_yaml import parse
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.small_runs import flags_of, profile, recipe, save_checkpoint, submit

Capture = pytest.CaptureFixture[str]

READ = """
import json, sys
from submitit.core.utils import DelayedSubmission
task = DelayedSubmission.load(sys.argv[1])
function = task.function
print(json.dumps([type(function).__module__, type(function).__name__, vars(function),
                  task._timeout_countdown], default=vars))
"""


def pickled(path: Path) -> tuple[str, dict[str, object], int]:
    """A submitted task as a process of the job reads it: class, data, time-outs that requeue."""
    done = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, check=True
    )
    module, name, data, count = json.loads(done.stdout)
    return f"{module}.{name}", data, count


def test_the_id_stands_alone_on_the_last_line_and_the_ledger_knows_the_job(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path), "steps=5")
    assert said.code == 0, said.err
    assert said.out == "4242\n"
    (entry,) = ledger.entries(tmp_path / "run")
    assert (entry.id, entry.run, entry.work) == ("4242", str(tmp_path / "run"), "train")
    assert (entry.nodes, entry.tasks, entry.steps) == ("2", 2, 5)
    assert entry.time.startswith("20")
    assert Path(entry.folder) == tmp_path / "run" / "logs" / "4242"
    logs = sorted(path.name for path in (tmp_path / "run" / "logs").iterdir())
    assert logs == ["4242", "jobs.jsonl"], "nothing half done lies about"


def test_the_job_is_the_resolved_recipe_of_an_importable_class(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--cluster", profile(tmp_path), "run_dir=here/run", "optim.lr=0.5", "--requeues", "7"]
    assert submit(capsys, recipe(tmp_path), *words).code == 0
    name, data, timeouts = pickled(tmp_path / "here/run/logs/4242/4242_submitted.pkl")
    assert name == "flava_plugin.launch.job.TrainingJob"
    resolved = parse(str(data["recipe"]))
    assert resolved["run_dir"] == str(tmp_path / "here" / "run")
    assert resolved["optim"]["lr"] == 0.5
    assert resolved["optim"]["betas"], "defaults are written out"
    assert timeouts == 7


def test_an_sbatch_that_refuses_is_a_failure_with_its_words_and_leaves_nothing(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    slurm.say("sbatch", "", 1)
    (slurm.folder / "sbatch.err").write_text("sbatch: error: Invalid qos specification\n")
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path))
    assert said.code == 1
    assert "Invalid qos specification" in said.err
    assert said.out == ""
    assert list((tmp_path / "run" / "logs").iterdir()) == []


def test_variables_of_the_job_around_it_do_not_reach_sbatch(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm.bin / "sbatch").write_text(
        f"#!/bin/sh\nenv > {tmp_path}/environment\necho Submitted batch job 5\n"
    )
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SUBMITIT_FOLDER", "SLURM_CONF"):
        monkeypatch.setenv(name, "4")
    assert submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path)).code == 0
    seen = (tmp_path / "environment").read_text()
    assert "SLURM_CONF=4" in seen
    assert not any(name in seen for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SUBMITIT_FOLDER"))
    assert os.environ["SLURM_NTASKS"] == "4"


def test_a_run_that_a_job_writes_to_is_refused(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path)]
    assert submit(capsys, *words).code == 0
    again = submit(capsys, *words, "--dry-run")
    assert "not known  other jobs: squeue does not answer; earlier: 4242" in again.err
    for state, expected in (("RUNNING", 2), ("PENDING", 2), ("COMPLETED", 0)):
        slurm.queue(("4242", state, "2", "1:00", "0", "None", f"flava:{tmp_path}/run"))
        again = submit(capsys, *words, "--dry-run")
        assert again.code == expected, state
    slurm.queue(("4242", "RUNNING", "2", "1:00", "0", "None", ""))
    assert "job 4242 of this run is RUNNING; cancel it (scancel 4242)" in submit(capsys, *words).err
    assert len(slurm.calls("sbatch")) == 1
    assert submit(capsys, *words, "--dependency", "afterany:4242").code == 0
    assert submit(capsys, *words, "--force").code == 0


def test_a_sweep_is_one_array_with_a_folder_for_each_element(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--sweep", "optim.lr=1e-3,5e-4", "--sweep", "seed=0,1", "--array-parallelism", "3"]
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path), *words)
    assert said.code == 0, said.err
    assert said.out == "4242\n"
    assert len(slurm.calls("sbatch")) == 1
    assert flags_of(slurm.script)["array"] == "0-3%3"
    entries = ledger.entries(tmp_path / "run")
    assert [entry.id for entry in entries] == [f"4242_{index}" for index in range(4)]
    names = [Path(entry.run).name for entry in entries]
    assert names == [f"optim.lr={lr}_seed={seed}" for lr in ("1e-3", "5e-4") for seed in (0, 1)]
    for entry in entries:
        assert ledger.entries(Path(entry.run)) == [entry]
        _, data, _ = pickled(Path(entry.folder) / f"{entry.id}_submitted.pkl")
        element = yaml.safe_load(str(data["recipe"]))
        assert element["run_dir"] == entry.run
        lr, seed = entry.run.rpartition("optim.lr=")[2].split("_seed=")
        assert (element["optim"]["lr"], element["seed"]) == (float(lr), int(seed))
    (runs,) = [line for line in slurm.script.splitlines() if line.startswith("flava_runs=")]
    assert [runs.count(entry.run) for entry in entries] == [1] * 4


def test_commas_inside_of_a_value_separate_nothing() -> None:
    assert sweep.split("a=[1,2],{b: 1, c: 2},'x,y',3")[1] == ["[1,2]", "{b: 1, c: 2}", "'x,y'", "3"]
    (found, _), errors = sweep.elements(["data.image.crop=[0.1,1],null"])
    assert not errors
    assert found[0] == "data.image.crop=-0.1-1"


def test_a_fine_tuning_waits_for_the_run_it_starts_from(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    first = tmp_path / "pretrained"
    words = [recipe(tmp_path), "--cluster", profile(tmp_path), f"init={{run: {first}}}"]
    said = submit(capsys, *words)
    assert said.code == 2
    assert f"init.run: '{first}' does not exist" in said.err
    said = submit(capsys, *words, "--dependency", "afterok:41", "--dry-run")
    assert said.code == 0, said.err
    assert f"not known  init.run: {first} holds no checkpoint yet; the job this" in said.err
    said = submit(capsys, *words, "--dependency", "afterok:41", "data.sources.pairs.dataset.type=x")
    assert said.code == 2, "nothing else is let through"
    first.mkdir()
    assert f"init.run: {first} holds no checkpoint yet; give" in submit(capsys, *words).err
    assert submit(capsys, *words, "--dependency", "afterok:41", "--dry-run").code == 0


def test_an_evaluation_is_a_job_of_the_profiles_processes(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    task = {"type": "retrieval", "dataset": {"type": "shapes_pairs", "size": 8}}
    run_dir = save_checkpoint(recipe(tmp_path, evaluate={"tasks": {"retrieval": task}}), 12)
    path = profile(tmp_path, gpus_per_node=8, tasks_per_node=4)
    words = [run_dir, "--eval", "--cluster", path, "--split", "dev", "--tasks", "retrieval"]
    paper = ["--data", tmp_path, "--again", "--with", "cola=runs/cola", "--compare", tmp_path]
    said = submit(capsys, *words, "--no-report", "threads=1", "--weights", "raw", *paper)
    assert said.code == 0, said.err
    assert {"nodes": "2", "ntasks-per-node": "4", "gpus-per-node": "8"}.items() <= flags_of(
        slurm.script
    ).items()
    assert "flava_code" not in slurm.script
    name, data, _ = pickled(run_dir / "logs" / "4242" / "4242_submitted.pkl")
    assert name == "flava_plugin.launch.job.EvaluationJob"
    assert data["evaluation"] == {
        "run_dir": str(run_dir),
        "split": "dev",
        "which": "latest",
        "tasks": ["retrieval"],
        "overrides": ["threads=1"],
        "report": False,
        "weights": "raw",
        "data": str(tmp_path),
        "again": True,
        "finetuned": [f"cola={Path('runs/cola').absolute()}"],
        "compare": str(tmp_path),
    }
    assert ledger.entries(run_dir)[0].work == "eval"
    said = submit(capsys, run_dir, "--eval", "--cluster", path, "--tasks", "retrival,x")
    assert said.code == 2
    assert "no task 'retrival' in the recipe; did you mean 'retrieval'?" in said.err
    assert "no task 'x' in the recipe; it has retrieval" in said.err
    assert submit(capsys, run_dir, "--eval", "--cluster", path, "--checkpoint", "best").code == 2
    crowd = profile(tmp_path, gpus_per_node=2, tasks_per_node=4)
    said = submit(capsys, run_dir, "--eval", "--cluster", crowd, "--with", "x=y", "--compare", "no")
    assert said.code == 2
    told = ("4 processes on a node and 2 GPUs", "--with: is of the", "--compare: ", "a task of: ")
    for text in told:
        assert text in said.err, said.err


def test_an_evaluation_may_wait_for_a_run_that_is_not_there(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [tmp_path / "later", "--eval", "--cluster", profile(tmp_path)]
    assert submit(capsys, *words).code == 2
    said = submit(capsys, *words, "--dependency", "afterok:4242")
    assert said.code == 0, said.err
    assert flags_of(slurm.script)["dependency"] == "afterok:4242"
    assert said.out == "4242\n"


@pytest.mark.parametrize("command", ["submit", "jobs", "logs"])
def test_help_answers_at_once_without_torch(command: str) -> None:
    program = (
        "import sys\nfrom flava_plugin.cli.main import main\n"
        f"try:\n    main(['{command}', '--help'])\n"
        "except SystemExit as left:\n"
        "    heavy = {'torch', 'numpy', 'submitit'} & set(sys.modules)\n"
        "    sys.exit(f'imported {heavy}' if heavy else left.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage: flava" in done.stdout
