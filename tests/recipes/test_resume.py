from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import lines, signal_at, start, write_recipe

from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.train import checkpoint, tensor_files
from flava_plugin.train.loop import train
from flava_plugin.train.requeue import Stopped, StopRequest


def run(folder: Path, *overrides: str) -> Path:
    train(load_recipe(str(write_recipe(folder)), list(overrides)))
    return folder / "run"


def stop_after(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a signal to this process while it does a step."""
    steps = iter(range(1, 1000))
    flags = StopRequest.flags

    def send(request: StopRequest) -> torch.Tensor:
        if next(steps) == step:
            os.kill(os.getpid(), number)
        return flags(request)

    monkeypatch.setattr(StopRequest, "flags", send)


def assert_same_run(run_dir: Path, reference: Path) -> None:
    assert lines(run_dir) == lines(reference)
    for file in ("model.safetensors", "optim.safetensors"):
        own, other = (load_file(checkpoint.find(r).folder / file) for r in (run_dir, reference))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own), file


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    return run(tmp_path_factory.mktemp("reference"))


def test_a_run_leaves_what_the_run_folder_promises(reference: Path) -> None:
    rows = lines(reference)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert {row["kind"] for row in rows} == {"image", "text", "pair"}
    pair = next(row for row in rows if row["kind"] == "pair")
    assert {"mmm_image", "mmm_text", "itm", "contrastive"} <= pair.keys()
    names = sorted(path.name for path in (reference / "checkpoints").iterdir())
    assert names == ["00000008", "00000012", "latest"]
    summary = json.loads((reference / "summary.json").read_text())
    assert summary["steps"] == 12 and summary["seconds"] > 0 and summary["samples_per_s"] > 0
    assert "torch " in (reference / "versions.txt").read_text()
    again = load_recipe(str(reference / "recipe.yaml"))
    assert again.to_yaml() == (reference / "recipe.yaml").read_text()


@pytest.mark.parametrize("step", [1, 5, 8])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(
    tmp_path: Path, reference: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(step, signal.SIGTERM, patched)
        with pytest.raises(Stopped, match=rf"SIGTERM after step {step}, saved; .*recipe\.yaml"):
            run(tmp_path)
    assert checkpoint.find(tmp_path / "run").step == step
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert_same_run(run(tmp_path), reference)


def test_resuming_with_other_workers_and_checkpoints_changes_nothing(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(6, signal.SIGINT, patched)
        with pytest.raises(Stopped):
            run(tmp_path, "data.workers=2")
    changed = run(tmp_path, "data.workers=1", "checkpoint.every=5", "checkpoint.keep=1")
    assert_same_run(changed, reference)


@pytest.mark.parametrize("step", [2, 7])
def test_a_killed_run_is_resumed_bit_for_bit(tmp_path: Path, reference: Path, step: int) -> None:
    recipe = write_recipe(tmp_path)
    process = start(recipe)
    signal_at(process, tmp_path / "run", step, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert_same_run(run(tmp_path), reference)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(write_recipe(tmp_path, steps=5000))
    signal_at(process, tmp_path / "run", 3, signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert f"to go on: flava train {tmp_path / 'run' / 'recipe.yaml'}" in text
    assert "Traceback" not in text
    assert checkpoint.find(tmp_path / "run").step == len(lines(tmp_path / "run"))


def test_the_signal_is_handed_to_its_former_handler_after_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a launcher that requeues the job needs it."""
    seen: list[int] = []

    def requeue(signum: int, frame: object) -> None:
        seen.append(checkpoint.find(tmp_path / "run").step)

    former = signal.signal(signal.SIGUSR2, requeue)
    try:
        stop_after(3, signal.SIGUSR2, monkeypatch)
        with pytest.raises(Stopped) as stopped:
            run(tmp_path)
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, former)
    assert seen == [3] and stopped.value.exit_code == 0


def test_evaluating_changes_nothing_and_keeps_the_best(tmp_path: Path, reference: Path) -> None:
    task = "{type: matching, dataset: {type: shapes_pairs, size: 16}}"
    overrides = ["evaluate.every=2", f"evaluate.tasks.itm={task}", "evaluate.metric=itm.accuracy"]
    run_dir = run(tmp_path, *overrides, "evaluate.split=dev", "checkpoint.keep=1")
    assert_same_run(run_dir, reference)
    rows = [json.loads(row) for row in (run_dir / "evaluations.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    best = max(rows, key=lambda row: row["itm.accuracy"])  # of equals, the first
    found = checkpoint.find(run_dir, "best")
    assert found.step == best["step"]
    assert found.state["best"] == {"step": best["step"], "value": best["itm.accuracy"]}


def copy_of(reference: Path, folder: Path) -> Path:
    """The finished run under another name, hard links for speed, to go on with."""
    for path in reference.rglob("*"):
        if path.is_file():
            target = folder / "run" / path.relative_to(reference)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder / "run"


def test_a_finished_run_says_so_and_stays(
    tmp_path: Path, reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copy_of(reference, tmp_path)
    with caplog.at_level("INFO"):
        run(tmp_path)
    assert f"{copy} has done its 12 steps" in caplog.text
    assert_same_run(copy, reference)


def test_a_changed_recipe_is_refused_by_name(tmp_path: Path, reference: Path) -> None:
    copy_of(reference, tmp_path)
    with pytest.raises(RecipeError) as refused:
        run(tmp_path, "seed=4", "optim.lr=0.1", "steps=20", "data.global_batch=16")
    text = str(refused.value)
    assert "seed: 3 in the checkpoint, 4 now" in text
    assert "optim.lr: 0.002 in the checkpoint, 0.1 now" in text
    assert "data.global_batch: 8 in the checkpoint, 16 now" in text
    assert "steps:" not in text and "another run_dir" in text


def test_a_truncated_checkpoint_falls_back(
    tmp_path: Path, reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copy_of(reference, tmp_path)
    file = copy / "checkpoints/00000012/model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert_same_run(run(tmp_path), reference)
    assert "00000012 is damaged" in caplog.text


def test_a_full_disk_stops_the_run_with_its_checkpoint_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file, saved = tensor_files.write_file, []

    def full(path: Path, *content: Any) -> None:
        if len(saved) >= 3:
            raise OSError(28, "No space left on device")
        saved.append(path)
        write_file(path, *content)

    monkeypatch.setattr(tensor_files, "write_file", full)
    with pytest.raises(OSError, match=r"cannot save step 8.*No space left.*checkpoint is kept"):
        run(tmp_path)
    assert checkpoint.find(tmp_path / "run").step == 4
    assert not list((tmp_path / "run/checkpoints").glob(".tmp-*"))


def test_a_loss_that_is_no_number_is_refused_and_nothing_overwritten(tmp_path: Path) -> None:
    process = start(write_recipe(tmp_path), "optim.lr=1e30", "optim.warmup_steps=4")
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1, text
    assert "nan" in text and "Traceback" not in text
    found = checkpoint.newest(tmp_path / "run")
    assert found is None or all(t.isfinite().all() for t in found.model().values())


def test_a_run_starts_from_anothers_backbone(tmp_path: Path, reference: Path) -> None:
    init = {"init.run": str(reference)}
    overrides = [f"{key}={value}" for key, value in init.items()]
    started = run(tmp_path, *overrides, "steps=1", "optim.lr=1e-12", "optim.weight_decay=0")
    own, other = (checkpoint.find(run_dir).model() for run_dir in (started, reference))
    names = [name for name in own if name.startswith("backbone.")]
    assert names and all(torch.allclose(own[n], other[n], atol=1e-6) for n in names)
    narrow = "model.projection=8"
    with pytest.raises(ValueError, match=r"image_projection\.weight: \(8, 16\) here, \(16, 16\)"):
        run(tmp_path / "narrow", *overrides, narrow)


def test_two_processes_train_as_one(tmp_path: Path, reference: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    overrides = ("steps=6", "model.text_encoder.dropout=0")  # each rank drops for itself
    process = start(write_recipe(tmp_path), *overrides, "sharding.strategy=ddp", launcher=launcher)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 0, text
    run(tmp_path / "one", *overrides)
    for pair, single in zip(lines(tmp_path / "run"), lines(tmp_path / "one/run"), strict=True):
        assert pair.keys() == single.keys()
        for key, value in single.items():
            if isinstance(value, float):
                assert pair[key] == pytest.approx(value, abs=1e-5, rel=1e-5), (key, single["step"])


def test_the_command_to_go_on_survives_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(str(write_recipe(tmp_path / "my runs")))
    monkeypatch.setattr(StopRequest, "flags", lambda _: torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(Stopped, match="to go on: flava train '.*/my runs/run/recipe.yaml'"):
        train(recipe)
