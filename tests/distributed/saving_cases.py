"""Saves that go wrong on one rank only; ``test_saving.py`` judges what each rank makes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from flava_plugin.sections import CheckpointSection, OptimSection, ShardingSection
from flava_plugin.train import checkpoint, run_folder, tensor_files
from flava_plugin.train.saver import Saver
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.world import World

FORMATS = ("full", "sharded")


def save_twice(world: World, run_dir: Path, form: Any, between: Any) -> Tensor:
    """Save steps 3 and 4, something happening in between: the newest step, letters of the error."""
    token = world.from_first(run_folder.claim(run_dir) if world.rank == 0 else "")
    strategy = make_strategy(ShardingSection(), nn.Linear(3, 2), OptimSection(), world)
    raised = ""
    with Saver(run_dir, CheckpointSection(format=form), world, token, 8) as saver:
        saver.save(strategy, 3, {"seconds": 1.0})
        saver.finish()
        with between(run_dir):
            saver.save(strategy, 4, {"seconds": 1.0})
            try:
                saver.finish()
            except (OSError, run_folder.LostClaimError) as error:
                raised = str(error)
    print(f"{form}: {raised}")
    return torch.tensor([checkpoint.find(run_dir).step, len(raised)])


def both(world: World, between: Any) -> dict[str, Tensor]:
    folder = Path(os.environ["TEST_RUNS"])
    return {form: save_twice(world, folder / form, form, between) for form in FORMATS}


def full_disk(world: World, rank: int) -> dict[str, Tensor]:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    def between(_: Path) -> Any:
        if world.rank == rank:
            return mock.patch.object(tensor_files, "write_file", full)
        return mock.MagicMock()

    return both(world, between)


def full_disk_of_first(world: World) -> dict[str, Tensor]:
    return full_disk(world, 0)


def full_disk_of_last(world: World) -> dict[str, Tensor]:
    return full_disk(world, world.size - 1)


def lost_claim(world: World) -> dict[str, Tensor]:
    def between(run_dir: Path) -> Any:
        if world.rank == 0:
            run_folder.claim(run_dir)
        return mock.MagicMock()

    return both(world, between)
