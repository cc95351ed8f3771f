"""``python -m tests.benchmarks.bench.strategies``: memory and speed of every sharding strategy.

At world size 1, on a GPU where there is one: what a strategy costs by itself, before it saves
anything. Each runs in a process of its own, so that no allocation outlives it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median
from typing import Any

import torch

from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from tests.benchmarks.bench import gpu
from tests.benchmarks.bench.batches import KINDS, make_work
from tests.benchmarks.bench.ours import our_learner
from tests.benchmarks.bench.peers import torchmultimodal_codebook
from tests.benchmarks.bench.rig import our_codebook
from tests.benchmarks.bench.sizes import SIZES
from tests.benchmarks.bench.stopwatch import Stopwatch

STRATEGIES = ("none", "ddp_oss", "fairscale_sdp", "fairscale_fsdp", "fsdp2")


def measure(
    strategy: str, size_name: str, rows: int, rounds: int, precision: Any
) -> dict[str, Any]:
    """Run some steps on padded pairs under one strategy."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    size = SIZES[size_name]
    learner = our_learner(size, our_codebook(torchmultimodal_codebook(size).encoder)).train()
    world = World(0, 1, 0, device)
    made = make_strategy(ShardingSection(strategy=strategy), learner, OptimSection(), world)
    work = make_work(size, KINDS["pair_padded"], given=False, rows=rows).to(device)
    weights = dict.fromkeys(learner.objectives_of("pair"), 1.0)
    watch = Stopwatch("cuda" if device.type == "cuda" else "wall")
    seconds = []
    for number in range(rounds + 2):
        watch.mark()
        train_step(made, learner, [work.trimmed], weights, world, (0, 0), precision=precision)
        made.clip_grad_norm(1.0)
        made.step()
        watch.mark()
        taken = watch.take()
        if number >= 2:
            seconds.append(taken[0])
    found: dict[str, Any] = {"strategy": strategy, "seconds": median(seconds)}
    found["samples_per_s"] = len(work.trimmed) / found["seconds"]
    if device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        flops = gpu.useful_flops(size, work, device)
        found["mfu"] = flops / found["seconds"] / gpu.matmul_peak(device)
        found["device"] = torch.cuda.get_device_name()
    return found


def main() -> None:
    """Measure one strategy, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", choices=STRATEGIES)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--rows", type=int, default=0, help="rows of a batch; 0: the size's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    chosen = parser.parse_args()
    if chosen.strategy:
        row = measure(chosen.strategy, chosen.size, chosen.rows, chosen.rounds, chosen.precision)
        print(json.dumps(row))
        return
    for strategy in STRATEGIES:
        if strategy == "fairscale_fsdp" and not torch.cuda.is_available():
            print("fairscale_fsdp needs CUDA: left out")
            continue
        words = [sys.executable, "-m", "tests.benchmarks.bench.strategies", *sys.argv[1:]]
        subprocess.run([*words, "--strategy", strategy], check=True)


if __name__ == "__main__":
    main()
