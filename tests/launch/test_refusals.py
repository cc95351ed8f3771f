"""Broken recipes, profiles and flags: refused with exit 2 and all errors, sbatch never called."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.launch.fake_slurm import FakeSlurm
from tests.launch.small_runs import profile, recipe, save_checkpoint, submit


class Bad(NamedTuple):
    """What is wrong, and what the lines have to say."""

    name: str
    recipe: dict[str, Any]
    profile: dict[str, Any]
    words: list[str]
    errors: list[str]


PARTITIONS = "debug*|1-00:00:00|0/4/0/4\ngpu|2:00:00|1/2/0/3\n"

MANY = ",".join(map(str, range(1001)))

CASES = [
    # The recipe.
    Bad("an unknown key", {"stepz": 3}, {}, [], ["stepz: unknown key; did you mean 'steps'"]),
    Bad("a wrong value", {}, {}, ["optim.lr=fast"], ["optim.lr: should be a valid number"]),
    Bad("an unknown recipe", {}, {}, ["RECIPE=pretrain/shape"], ["did you mean 'pretrain/shapes'"]),
    Bad("a dataset that is not there", {}, {},
        ["data.sources.pairs.dataset={type: jsonl_pairs, path: /nowhere/x.jsonl}"],
        ["data.sources.pairs.dataset", "/nowhere/x.jsonl"]),
    Bad("a path without its variable", {"run_dir": "$NOWHERE_AT_ALL/x"}, {}, [],
        ["run_dir: names a variable that is not set"]),
    # Recipe against processes.
    Bad("a global batch that does not come out even", {}, {"nodes": 3}, [],
        ["global batch: data.global_batch 8 is not a multiple of 3 nodes x 2 = 6 ranks",
         "take 6 or 12"]),
    Bad("one number of nodes of a range", {}, {"nodes": "1-3"}, [], ["3 nodes x 2 = 6 ranks"]),
    Bad("micro-batches that do not come out even", {}, {}, ["data.per_gpu_batch=4"],
        ["4 ranks x data.per_gpu_batch 4", "take 16"]),
    Bad("no sharding on several processes", {"sharding": {"strategy": "none"}}, {}, [],
        ["sharding: sharding.strategy 'none' is for one process, this is 2 nodes x 2 = 4 ranks"]),
    Bad("more processes than GPUs", {"device": "auto"}, {"gpus_per_node": 1}, [],
        ["GPUs: 2 processes on a node and 1 GPUs", "--tasks-per-node 1"]),
    Bad("a GPU that nobody asks for", {"device": "cuda"}, {}, [],
        ["give gpus_per_node or --ngpus"]),
    # The profile.
    Bad("an unknown profile key", {}, {"partitoin": "x"}, [], ["did you mean 'partition'"]),
    Bad("no walltime", {}, {"time": None}, [], ["walltime: is needed", "--time"]),
    Bad("a walltime of words", {}, {"time": "soon"}, [], ["time: should be minutes, HH:MM:SS"]),
    Bad("a signal before the start", {}, {"time": 2}, ["--signal-delay", "120"],
        ["walltime: 00:02:00, asked to save 120 s before: at once"]),
    Bad("nodes that go down", {}, {}, ["--nodes", "4-2"], ["--nodes: ", "(got '4-2')"]),
    Bad("an sbatch option of the launcher", {}, {"sbatch": {"output": "x"}}, [],
        ["sbatch.output: is written by the launcher", "--job-dir"]),
    Bad("an unknown profile", {}, {}, ["--cluster", "local_clustre"],
        ["did you mean 'local_cluster'"]),
    # The cluster.
    Bad("an unknown partition", {}, {"partition": "gqu"}, [],
        ["partition: the cluster has no 'gqu'; did you mean 'gpu'?"]),
    Bad("more than the partition's time", {}, {"time": "3:00:00"}, [],
        ["'gpu' has 3 nodes, walltime limit 02:00:00, below 03:00:00; take --time 120 or less"]),
    Bad("more than the partition's nodes", {"data": None}, {"nodes": 4}, [],
        ["'gpu' has 3 nodes", "take fewer --nodes than 4"]),
    Bad("an account of others", {}, {"account": "physics"}, [],
        ["account: 'physics' is none of yours: biology, chemistry; change --account"]),
    Bad("a qos of another account", {}, {"account": "biology", "qos": "long"}, [],
        ["qos: 'long' is none of yours: normal, short"]),
    # Flags.
    Bad("a dependency without a kind", {}, {}, ["--dependency", "77"],
        ["--dependency: ", "did you mean 'afterok:77'?"]),
    Bad("a dependency without an id", {}, {}, ["--dependency", "afterok:"], ["(got 'afterok:')"]),
    Bad("a sweep without values", {}, {}, ["--sweep", "optim.lr"],
        ["--sweep optim.lr: write key=value,value"]),
    Bad("a sweep with a value twice", {}, {}, ["--sweep", "seed=1,2,1"], ["a value stands twice"]),
    Bad("an axis twice", {}, {}, ["--sweep", "seed=1", "--sweep", "seed=2"],
        ["--sweep seed: stands twice"]),
    Bad("a sweep of run_dir", {}, {}, ["--sweep", "run_dir=a,b"], ["has a folder of its own"]),
    Bad("a sweep with a bad element", {}, {}, ["--sweep", "optim.lr=1e-3,-1"],
        ["[optim.lr=-1] ", "optim.lr: should be greater than 0"]),
    Bad("a sweep as large as no array", {}, {}, ["--sweep", f"seed={MANY}"],
        ["1001 elements; SLURM's arrays have at most 1000"]),
    Bad("a variable without a value", {}, {}, ["--env", "NCCL_DEBUG"], ["--env: write NAME=VALUE"]),
    Bad("a quote that does not end", {}, {}, ["--srun-args", "'x"], ["--srun-args: "]),
    Bad("a job name of two lines", {}, {}, ["--name", "a\nb"], ["--name: should be one line"]),
    Bad("options of an evaluation", {}, {}, ["--split", "dev", "--tasks", "a"],
        ["--split: belongs to an evaluation; add --eval", "--tasks: belongs to"]),
    Bad("an evaluation of nothing", {}, {}, ["RECIPE=nowhere", "--eval"],
        ["nowhere: no run here", "--dependency afterok:ID"]),
    Bad("a queue on this machine", {}, {}, ["--executor", "local", "--dependency", "afterok:1"],
        ["--dependency: local has no queue"]),
    Bad("several nodes on this machine", {}, {}, ["--executor", "local", "--nodes", "2"],
        ["--nodes: local is this machine"]),
    Bad("several processes in this one", {}, {}, ["--executor", "debug", "--tasks-per-node", "2"],
        ["--tasks-per-node: debug is this one process"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_before_anything_is_submitted(
    case: Bad, slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.say("sinfo", PARTITIONS)
    slurm.say("sacctmgr", "biology|normal,short\nchemistry|long\n")
    changes = dict(case.recipe)
    if "data" in changes:  # a batch that fits any number of nodes
        changes.pop("data")
    words = list(case.words)
    path: object = recipe(tmp_path, **changes)
    if words and words[0].startswith("RECIPE="):
        path = words.pop(0).removeprefix("RECIPE=")
    if "--cluster" not in words:
        words += ["--cluster", str(profile(tmp_path, **case.profile))]
    said = submit(capsys, path, *words)
    assert said.code == 2, said.err
    for text in case.errors:
        assert text in said.err, said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not slurm.calls("sbatch")
    assert not (tmp_path / "run").exists()


def test_there_are_enough_kinds() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 25


def test_all_errors_of_recipe_profile_flags_and_cluster_come_at_once(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.say("sinfo", PARTITIONS)
    path = recipe(tmp_path, stepz=1, optim={"lr": -1})
    bad = profile(tmp_path, tiem=60, nodes=0, partition="nowhere")
    said = submit(capsys, path, "--cluster", bad, "--dependency", "7", "--env", "x")
    assert said.code == 2
    for text in ("stepz: ", "optim.lr: ", "tiem: ", "nodes: ", "--dependency: ", "--env: "):
        assert text in said.err
    assert "the cluster has no 'nowhere'; known: debug, gpu" in said.err


def test_what_the_cluster_does_not_answer_is_not_known_and_not_refused(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = profile(tmp_path, account="a", qos="q")
    said = submit(capsys, recipe(tmp_path), "--cluster", path, "--dry-run")
    assert said.code == 0
    for subject in ("partition", "account", "qos"):
        assert f"not known  {subject}: " in said.err


def test_what_the_cluster_has_is_said(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.say("sinfo", PARTITIONS)
    slurm.say("sacctmgr", "biology|normal,short\n")
    path = profile(tmp_path, account="biology", qos="short", partition=None)
    said = submit(capsys, recipe(tmp_path), "--cluster", path, "--dry-run")
    assert said.code == 0
    assert "ok         partition: 'debug' has 4 nodes, walltime limit 1-00:00:00" in said.err
    assert "ok         account: 'biology' is one of yours" in said.err
    assert "ok         qos: 'short' is one of yours" in said.err


def test_a_run_folder_that_cannot_be_written_to_is_refused(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_file").write_text("")
    words = ["--cluster", profile(tmp_path), f"run_dir={tmp_path}/a_file/run"]
    assert "a_file is a file" in submit(capsys, recipe(tmp_path), *words).err
    words[-1] = f"run_dir={tmp_path}/run%j"
    said = submit(capsys, recipe(tmp_path), *words)
    assert said.code == 2
    assert "holds a %" in said.err


def test_a_path_of_one_machine_is_a_warning(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cluster", profile(tmp_path), "run_dir=/tmp/flava-of-one-machine/run", "--dry-run"]
    said = submit(capsys, recipe(tmp_path), *words)
    assert said.code == 0
    assert "warning    run_dir: /tmp/flava-of-one-machine/run looks local to one" in said.err


def test_a_checkpoint_of_another_recipe_is_refused(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path)
    save_checkpoint(path, 4)
    words = [path, "--cluster", profile(tmp_path)]
    said = submit(capsys, *words, "--dry-run")
    assert said.code == 0
    assert "ok         checkpoint: goes on from step 4 of 12" in said.err
    said = submit(capsys, *words, "seed=9")
    assert said.code == 2
    assert "seed: 3 in the checkpoint, 9 now" in said.err
    assert not slurm.calls("sbatch")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (40, "ok         pace: 10 s per step so far, a checkpoint every 40 s"),
        (4000, "a step outlasts the 120 s left to save: give a --signal-delay above it"),
        (400, "warning    pace: 100 s per step so far, a checkpoint every 10000 s, more than"),
    ],
)
def test_the_pace_of_the_run_so_far_is_held_against_the_walltime(
    seconds: int,
    text: str,
    slurm: FakeSlurm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = recipe(tmp_path, checkpoint={"every": 100 if seconds == 400 else 4})
    (save_checkpoint(path, 4) / "summary.json").write_text(f'{{"steps": 4, "seconds": {seconds}}}')
    said = submit(capsys, path, "--cluster", profile(tmp_path), "--dry-run")
    assert text in said.err


def test_no_sbatch_on_this_machine_is_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path)]
    monkeypatch.setenv("PATH", str(tmp_path))
    said = submit(capsys, *words)
    assert said.code == 2
    assert "sbatch and srun not found on this machine; submit from a login node" in said.err


def test_a_malformed_value_hides_no_error_of_the_rest(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_file").write_text("")
    path = recipe(tmp_path, optim={"lr": "fast"}, run_dir=f"{tmp_path}/a_file/run", device="cuda")
    said = submit(capsys, path, "--cluster", profile(tmp_path, nodes=3, mem_gb="lots"))
    assert said.code == 2
    for text in ("optim.lr: ", "mem_gb: ", "global batch: ", "GPUs: ", "a_file is a file"):
        assert text in said.err


@pytest.mark.parametrize(
    ("words", "silent"),
    [
        (["sharding.strategy=dpp"], "is for one process"),
        (["data.per_gpu_batch=x", "--nodes", "3"], "is not a multiple"),
        (["run_dir=5"], "can be written to"),
        (["--time", "soon"], "walltime: is needed"),
        (["--tasks-per-node", "x", "--ngpus", "1", "device=cuda"], "GPUs: "),
        (["--ngpus", "x", "device=cuda"], "no GPU is asked for"),
    ],
)
def test_nothing_is_said_of_what_stands_in_for_a_malformed_value(
    words: list[str],
    silent: str,
    slurm: FakeSlurm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path), "--dry-run", *words)
    assert said.code == 2
    assert silent not in said.err
