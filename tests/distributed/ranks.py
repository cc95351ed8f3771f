"""Runs a function on several processes and brings their tensors back; nothing hangs.

As a program it is one rank: ``python ranks.py MODULE.FUNCTION FOLDER``, its place in RANK and
WORLD_SIZE.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from flava_plugin.train.leaving import leave_at_once
from flava_plugin.train.world import World, connect, disconnect

HERE = Path(__file__).resolve()


def run(
    function: str,
    size: int,
    folder: Path,
    *,
    variables: Mapping[int, Mapping[str, str]] | None = None,
    timeout: float = 120.0,
) -> list[dict[str, Tensor]]:
    """Run a function on every rank.

    Args:
        function: ``module.name`` of a function in this folder; it takes a World and returns tensors
            by name.
        size: Number of ranks.
        folder: An empty one, for the meeting point and the results.
        variables: By rank, the launcher's variables by which ``connect`` finds the others; without
            them ranks meet in a file, which needs no free port.
        timeout: Seconds until every rank is ended.

    Returns:
        What each rank returned.

    Raises:
        RuntimeError: A rank failed; the others are ended, and its last lines quoted.
    """
    processes = []
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "MASTER_"))}
    for rank in range(size):
        own = variables[rank] if variables else {"TEST_RANK": str(rank), "TEST_SIZE": str(size)}
        with (folder / f"log_{rank}").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", str(HERE), function, str(folder)],
                    env={**clean, "OMP_NUM_THREADS": "1", **own},
                    stdout=log,
                    stderr=log,
                )
            )
    deadline = time.monotonic() + timeout
    try:
        while any(process.poll() is None for process in processes):
            failed = [rank for rank, process in enumerate(processes) if process.poll()]
            if failed or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    # Those that were ended here have -9. A rank that failed takes with it those that waited for it,
    # and any of them may be seen first: all are quoted.
    failed = [rank for rank, each in enumerate(processes) if each.returncode not in (0, -9)]
    if failed:
        quoted = {
            rank: (folder / f"log_{rank}").read_text(errors="replace")[-3000:] for rank in failed
        }
        raise RuntimeError(
            "\n".join(f"rank {r} of {size} failed in {function}:\n{quoted[r]}" for r in failed)
        )
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{function} on {size} ranks took more than {timeout} s")
    return [load_file(folder / f"out_{rank}.safetensors") for rank in range(size)]


def meet(folder: Path) -> World:
    if "TEST_RANK" not in os.environ:
        return connect("cpu", timeout=60)
    rank, size = int(os.environ["TEST_RANK"]), int(os.environ["TEST_SIZE"])
    meeting = (folder / "meeting").resolve().as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    return World(rank, size, rank, torch.device("cpu"))


def main() -> None:
    function, folder = sys.argv[1], Path(sys.argv[2])
    world = meet(folder)
    module, _, name = function.partition(".")
    tensors = getattr(importlib.import_module(module), name)(world)
    contiguous = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / f"out_{world.rank}.safetensors")
    disconnect()
    leave_at_once()


if __name__ == "__main__":
    main()
