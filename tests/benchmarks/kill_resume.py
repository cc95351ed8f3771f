"""Kill a 60-step run with SIGKILL at random moments; every resume has to equal the whole run.

    python tests/benchmarks/kill_resume.py [--kills 20] [--seed 0] [--steps 60]

Each round starts from nothing, is killed at a random time after a random step (starting, reading,
computing, in the middle of a save), is checked to hold no unreadable checkpoint and none
lost, and is started again to its end. Exit code 0 if every round came out bit for bit.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))

import torch
from safetensors.torch import load_file
from tiny_run import lines, start, write_recipe

from flava_plugin.train import checkpoint

EVERY = 2
"""A save every second step: about half of the kills meet a checkpoint being written."""


def finish(recipe: Path) -> None:
    """Run to the end."""
    process = start(recipe)
    _, text = process.communicate()
    assert process.returncode == 0, text


def kill_at(recipe: Path, run_dir: Path, step: int, delay: float) -> bool:
    """Start, and kill so long after a step is logged; whether the run was still alive."""
    process = start(recipe)
    path = run_dir / "metrics.jsonl"
    while step and process.poll() is None:
        if path.is_file() and path.read_bytes().count(b"\n") >= step:
            break
        time.sleep(0.001)
    time.sleep(delay)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def faults(run_dir: Path, reference: Path) -> list[str]:
    """What differs between a resumed run and the whole one."""
    found = []
    if lines(run_dir) != lines(reference):
        found.append("the losses differ")
    for file in ("model.safetensors", "optim.safetensors"):
        own, other = (load_file(checkpoint.find(r).folder / file) for r in (run_dir, reference))
        if own.keys() != other.keys() or any(not torch.equal(own[k], other[k]) for k in own):
            found.append(f"{file} differs")
    return found


def unreadable(run_dir: Path) -> list[str]:
    """Checkpoints that a kill left damaged; there must be none under its final name."""
    broken = []
    for folder in sorted((run_dir / "checkpoints").glob("[0-9]*")):
        try:
            checkpoint.read(folder)
        except ValueError as error:
            broken.append(str(error))
    return broken


def expected_step(run_dir: Path) -> int:
    """The last checkpoint that ``latest`` promises."""
    pointer = run_dir / "checkpoints" / "latest"
    return int(pointer.read_text()) if pointer.is_file() else 0


def main() -> int:
    """Run the rounds.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    good = saves = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = {
            "steps": options.steps,
            "checkpoint": {"every": EVERY, "keep": 3},
            "metrics": {"every": 1, "tensorboard": False},
        }
        whole = write_recipe(folder / "whole", **settings)
        finish(whole)
        reference = folder / "whole" / "run"
        seconds = json.loads((reference / "summary.json").read_text())["seconds"]
        print(f"the whole run: {options.steps} steps in {seconds:.1f} s", flush=True)
        for number in range(1, options.kills + 1):
            recipe = write_recipe(folder / str(number), **settings)
            run_dir = folder / str(number) / "run"
            step = draw.randrange(options.steps - 1)  # 0: while it starts
            delay = draw.uniform(0, 1.5 * seconds / options.steps if step else 5.0)
            alive = kill_at(recipe, run_dir, step, delay)
            wrong = unreadable(run_dir)
            halved = bool(list((run_dir / "checkpoints").glob(".tmp-*")))
            found, promised = checkpoint.newest(run_dir), expected_step(run_dir)
            if (found.step if found else 0) < promised:
                wrong.append(f"checkpoint {promised} is lost")
            reached = len(lines(run_dir))
            finish(recipe)
            wrong += faults(run_dir, reference)
            wrong += [f"left over: {p.name}" for p in run_dir.rglob(".tmp-*")]
            good += not wrong
            saves += halved
            print(
                f"kill {number:2d}: {1000 * delay:4.0f} ms after step {step:2d}, at {reached:2d}"
                f"{', in a save' if halved else ''}{'' if alive else ', too late'}: "
                + ("; ".join(wrong) or f"resumed from {promised}, bit for bit"),
                flush=True,
            )
            shutil.rmtree(folder / str(number))
    print(f"{good} of {options.kills} bit for bit; {saves} kills hit a half-written save")
    return 0 if good == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
