from __future__ import annotations

import logging
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flava_plugin import durable
from flava_plugin.train import checkpoint, run_folder, saving, tensor_files
from flava_plugin.train.resume import newest_of_all, take_over
from flava_plugin.train.world import World

ALONE = World(0, 1, 0, torch.device("cpu"))

MODEL = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.ones(3)}
OPTIM = {
    "layer.weight": {
        "exp_avg": torch.full((3, 4), 0.5),
        "exp_avg_sq": torch.full((3, 4), 0.25),
        "step": torch.tensor(7.0),
    }
}


def save(
    run_dir: Path,
    step: int,
    *,
    model: dict[str, Tensor] = MODEL,
    token: str | None = None,
    keep: int = 3,
    best: bool = False,
) -> Path:
    token = token or run_folder.claim(run_dir)
    return saving.save(
        run_dir, step, model, OPTIM, {"seconds": 1.5}, token=token, keep=keep, best=best
    )


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, 7)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.state["seconds"]) == (7, 1.5)
    assert all(torch.equal(found.model()[name], tensor) for name, tensor in MODEL.items())
    state = found.optim()["layer.weight"]
    assert all(torch.equal(state[k], tensor) for k, tensor in OPTIM["layer.weight"].items())
    assert names(tmp_path) == ["00000007", "latest"]
    assert (tmp_path / "checkpoints/latest").read_text() == "00000007\n"


def test_tied_tensors_and_views_are_saved_under_every_name(tmp_path: Path) -> None:
    bias = torch.arange(5.0)
    tied = {"head.bias": bias, "head.decoder.bias": bias, "view": bias[1:3], "t": bias.view(1, 5).T}
    save(tmp_path, 1, model=tied)
    loaded = checkpoint.find(tmp_path).model()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tied.items())


@pytest.mark.parametrize("file", ["model.safetensors", "optim.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "altered", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 5)
    path = save(tmp_path, 10) / file
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        wrong = {"truncated": data[:-3], "altered": b"\x01" + data[1:], "empty": b""}
        path.write_bytes(wrong[damage])
    with caplog.at_level(logging.WARNING):
        found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 5
    assert "00000010 is damaged" in caplog.text


def test_when_every_checkpoint_is_damaged_all_are_named(tmp_path: Path) -> None:
    for step in (5, 10):
        (save(tmp_path, step) / "state.json").write_text("{")
    with pytest.raises(ValueError, match="(?s)00000010 is damaged.*00000005 is damaged.*restore"):
        checkpoint.newest(tmp_path)


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_reached_again(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (save(tmp_path, 10) / "state.json").write_text("{")
    save(tmp_path, 7, keep=1)  # the damaged one is not counted among the newest
    assert checkpoint.find(tmp_path).step == 7
    save(tmp_path, 10, keep=1)
    assert checkpoint.find(tmp_path).step == 10
    assert names(tmp_path) == ["00000010", "latest"], "the damaged one takes no room"


def test_what_a_run_prunes_beside_a_reader_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = run_folder.claim(tmp_path)
    save(tmp_path, 5, token=token)
    measure = checkpoint.fingerprint

    def meanwhile(path: Path) -> checkpoint.Fingerprint:
        monkeypatch.setattr(checkpoint, "fingerprint", measure)
        save(tmp_path, 10, token=token, keep=1)
        return measure(path)

    monkeypatch.setattr(checkpoint, "fingerprint", meanwhile)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 10


def test_who_takes_a_run_over_goes_on_from_what_the_other_saved_last(tmp_path: Path) -> None:
    older = run_folder.claim(tmp_path)
    save(tmp_path, 5, token=older)
    found = newest_of_all(tmp_path, ALONE)
    assert found is not None and found.step == 5
    save(tmp_path, 10, token=older, keep=1)
    token, taken = take_over(tmp_path, ALONE, found)
    assert taken is not None and taken.step == 10
    with pytest.raises(run_folder.LostClaimError):
        save(tmp_path, 15, token=older)
    save(tmp_path, 15, token=token)
    assert take_over(tmp_path / "new", ALONE, None)[1] is None


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(tmp_path, step, keep=2, best=step == 3)
    assert names(tmp_path) == ["00000003", "00000005", "00000006", "best", "latest"]
    assert checkpoint.find(tmp_path, "best").step == 3
    assert checkpoint.find(tmp_path, 5).step == checkpoint.find(tmp_path, "5").step == 5
    with pytest.raises(ValueError, match=r"no checkpoint '4'; it holds 3, 5, 6"):
        checkpoint.find(tmp_path, 4)
    with pytest.raises(ValueError, match="not latest, best or a number"):
        checkpoint.find(tmp_path, "lastest")


def test_an_attempt_that_lost_the_folder_moves_nothing(tmp_path: Path) -> None:
    older = run_folder.claim(tmp_path)
    save(tmp_path, 1, token=older)
    newer = run_folder.claim(tmp_path)
    with pytest.raises(run_folder.LostClaimError, match="another process has started this run"):
        save(tmp_path, 2, token=older)
    save(tmp_path, 3, token=newer)
    assert names(tmp_path) == ["00000001", "00000003", "latest"]
    assert (tmp_path / "checkpoints/latest").read_text() == "00000003\n"


def dying(function: Callable[..., Any], budget: list[int]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        budget[0] -= 1
        if budget[0] < 0:
            os._exit(9)
        return function(*args, **kwargs)

    return call


def save_and_die(run_dir: Path, changes: int) -> int:
    """Save step 2 over step 1 in a child that is killed after so many changes of the disk."""
    token = run_folder.claim(run_dir)
    save(run_dir, 1, token=token, keep=1)
    child = os.fork()
    if child == 0:
        budget = [changes]
        os.fsync, os.replace = dying(os.fsync, budget), dying(os.replace, budget)
        for name in ("rename", "write_text", "mkdir", "unlink"):
            setattr(Path, name, dying(getattr(Path, name), budget))
        tensor_files.write_file = dying(tensor_files.write_file, budget)
        shutil.rmtree = dying(shutil.rmtree, budget)
        model = {name: tensor + 2 for name, tensor in MODEL.items()}
        save(run_dir, 2, model=model, token=token, keep=1, best=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_kill_before_any_change_of_the_disk_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    for changes in range(60):
        folder = tmp_path / str(changes)
        status = save_and_die(folder, changes)
        found = checkpoint.newest(folder)
        assert found is not None, changes
        offset = 0 if found.step == 1 else 2
        assert all(torch.equal(found.model()[n], t + offset) for n, t in MODEL.items()), changes
        latest = (folder / "checkpoints/latest").read_text().strip()
        assert (folder / "checkpoints" / latest).is_dir(), changes
        checkpoint.sweep(folder)
        assert not list(folder.glob("**/.tmp-*")), changes
        if status == 0:
            assert found.step == 2
            assert changes > 15
            return
        assert status == 9
    raise AssertionError("60 kills did not reach the end of a save")


def test_a_full_disk_is_named_and_costs_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="cannot save step 2 .*previous checkpoint is kept"):
            save(tmp_path, 2, model={"w": torch.zeros(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["00000001", "latest"]
    assert checkpoint.find(tmp_path).step == 1


def test_text_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest"
    durable.write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_change_of_a_recipe_is_named_but_those_that_may_be() -> None:
    saved = {"steps": 10, "seed": 0, "optim": {"lr": 0.1, "betas": [0.9, 0.999]}, "init": None}
    allowed = saved | {"steps": 20, "threads": 2, "checkpoint": {"every": 5}}
    assert run_folder.changes(saved, allowed) == []
    moved = [
        {"data": {"sources": {"a": {"dataset": {"type": "x", "path": place, "cache": cache}}}}}
        for place, cache in (("/old", {"folder": "/tmp/1", "gib": 5}), ("/new", None))
    ]
    assert run_folder.changes(*moved) == [], "their fingerprint says whether they are the same"
    now = allowed | {"seed": 1, "optim": {"lr": 0.1, "betas": [0.9, 0.98]}, "data": {"workers": 1}}
    assert run_folder.changes(saved, now) == [
        "optim.betas: [0.9, 0.999] in the checkpoint, [0.9, 0.98] now",
        "seed: 0 in the checkpoint, 1 now",
    ]
