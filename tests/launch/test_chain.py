"""Several jobs by one command: all checked first, each waiting for the one before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flava_plugin.launch import ledger
from flava_plugin.strict_yaml import parse
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.small_runs import flags_of, profile, recipe, save_checkpoint, submit
from tests.launch.test_submit import pickled

Capture = pytest.CaptureFixture[str]

TASK = {"itm": {"type": "matching", "dataset": {"type": "shapes_pairs", "size": 8}}}


def tuning(folder: Path, **changes: object) -> Path:
    """A recipe that takes its model from the run it starts from."""
    data = yaml.safe_load(recipe(folder).read_text())
    for key in ("model", "run_dir", "objectives"):
        del data[key]
    del data["data"]["tokenizer"]
    head = {"type": "classifier", "reads": "fused", "num_classes": None}
    loss = {"type": "class_ce", "target": "answer"}
    data["objectives"] = {"answers": {"modality": "pair", "head": head, "loss": loss}}
    asked = {"type": "shapes_questions", "kind": "color"}
    data["data"]["sources"] = {"train": {"modality": "pair", "share": 1, "dataset": asked}}
    data["data"]["matching"] = {"negatives": 0}
    data |= {"run_dir": str(folder / "tuned"), "evaluate": {"tasks": TASK}} | changes
    path = folder / "tuning.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_three_jobs_wait_for_one_another_and_the_last_id_stands_alone(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path), "--partition", "first"]
    words += ["--then", tuning(tmp_path), "optim.lr=0.5", "--time", "7"]
    words += ["--then", "--eval", "--nodes", "1", "--tasks", "itm"]
    said = submit(capsys, *words)
    assert said.code == 0, said.err
    assert said.out == "3\n"
    scripts = [(numbered.folder / f"script_{number}").read_text() for number in (1, 2, 3)]
    flags = [flags_of(script) for script in scripts]
    assert [each.get("dependency") for each in flags] == [None, "afterok:1", "afterok:2"]
    assert [each.get("kill-on-invalid-dep") for each in flags] == [None, "yes", "yes"]
    assert [each["nodes"] for each in flags] == ["2", "2", "1"]
    assert [each["time"] for each in flags] == ["60", "7", "60"]
    assert [each["partition"] for each in flags] == ["first"] * 3
    name, data, _ = pickled(tmp_path / "tuned" / "logs" / "2" / "2_submitted.pkl")
    resolved = parse(str(data["recipe"]))
    assert resolved["init"]["run"] == str(tmp_path / "run")
    assert resolved["model"]["image_encoder"]["width"] == 16, "of the first job's recipe"
    assert resolved["optim"]["lr"] == 0.5
    _, data, _ = pickled(tmp_path / "tuned" / "logs" / "3" / "3_submitted.pkl")
    assert data["evaluation"]["run_dir"] == str(tmp_path / "tuned")  # type: ignore[index]
    assert [e.work for e in ledger.entries(tmp_path / "tuned")] == ["train", "eval"]


def test_a_dry_run_shows_every_script_and_submits_nothing(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path), "--dry-run"]
    said = submit(capsys, *words, "--then", tuning(tmp_path), "--then", "--eval")
    assert said.code == 0, said.err
    assert said.out.count("#!/bin/bash") == 3
    assert "afterok:JOB1" in said.out and "afterok:JOB2" in said.out
    assert "[job 2] ok         init.run: the backbone of" in said.err
    assert not (tmp_path / "run").exists() and not (numbered.folder / "count").exists()


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (["model.image_encoder.width=32"], "will not fit this recipe's model"),
        (["init.run=elsewhere"], "'elsewhere' does not exist"),
        (["init.run=OTHER"], "is no run that a job before it makes"),
        (["run_dir=RUN"], "two jobs of the chain train in"),
        (["--dependency", "afterok:5"], "--dependency: a job after --then waits"),
        (["--sweep", "seed=1,2"], "--sweep: a job of a chain makes one run"),
        (["optim.lr=-1"], "optim.lr"),
        (
            ["--then", "--eval", "--tasks", "imt"],
            "no task 'imt' in the recipe; did you mean 'itm'?",
        ),
        (["--then", "--eval", "evaluate.split=no", "nonsense=1"], "nonsense: unknown key"),
        (["--then", "seed=1"], "seed=1: no such recipe"),
        (["--then", "--nodes", "1"], "--then: names no recipe"),
    ],
)
def test_whatever_is_wrong_with_a_later_job_keeps_the_first_from_the_queue(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture, then: list[str], text: str
) -> None:
    other = save_checkpoint(recipe(tmp_path / "other"), 3)
    words = [recipe(tmp_path), "--cluster", profile(tmp_path), "--then", tuning(tmp_path)]
    places = {"RUN": str(tmp_path / "run"), "OTHER": str(other)}
    for word in then:
        for name, place in places.items():
            word = word.replace(name, place)
        words.append(word)
    said = submit(capsys, *words)
    assert said.code == 2, said.err
    assert text in said.err
    assert not (numbered.folder / "count").exists()


def test_a_start_may_be_any_run_of_the_chain_and_is_awaited_only_there(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path)]
    second = ["--then", tuning(tmp_path), "seed=5"]
    third = ["--then", tuning(tmp_path), f"run_dir={tmp_path}/third"]
    said = submit(capsys, *words, *second, *third, f"init.run={tmp_path}/run")
    assert said.code == 0, said.err
    _, data, _ = pickled(tmp_path / "third" / "logs" / "3" / "3_submitted.pkl")
    assert parse(str(data["recipe"]))["init"]["run"] == str(tmp_path / "run")
    alone = submit(capsys, tuning(tmp_path), f"init.run={tmp_path}/run", *words[1:])
    assert alone.code == 2 and f"init.run: '{tmp_path}/run' holds no" in alone.err


def test_an_sbatch_that_refuses_a_later_job_says_what_is_queued(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    (numbered.folder / "refuses").write_text("2")
    words = [recipe(tmp_path), "--cluster", profile(tmp_path), "--then", tuning(tmp_path)]
    said = submit(capsys, *words)
    assert said.code == 1 and said.out == ""
    assert "no more" in said.err and "scancel 1" in said.err


def test_a_chain_on_this_machine_runs_one_job_after_the_other(
    tmp_path: Path, capsys: Capture
) -> None:
    first = recipe(tmp_path, steps=2, sharding={"strategy": "none"})
    words = [first, "--executor", "debug", "--then", tuning(tmp_path, steps=2)]
    said = submit(capsys, *words, "sharding.strategy=none", "--then", tmp_path / "run", "--eval")
    assert said.code == 2 and "names no tasks" in said.err
    task = f"evaluate.tasks={yaml.safe_dump(TASK, default_flow_style=True).strip()}"
    said = submit(
        capsys, *words, "sharding.strategy=none", "--then", tmp_path / "run", "--eval", task
    )
    assert said.code == 0, said.err
    assert (tmp_path / "tuned/summary.json").is_file() and (tmp_path / "run/results.json").is_file()
