"""What diagnoses cost: runs of ``pretrain/shapes`` with and without them, in pairs.

    python -m tests.benchmarks.bench.diagnose --steps 300 --every 20 --pairs 3

Runs of a pair follow each other, the one with diagnoses first in every other pair. What counts is
the time of the processor (user and system, one thread), which other work on the machine disturbs
less than the clock. Diagnoses are made more often than by default, so that their cost stands out
from the noise, and what is found for one is then laid out over the default interval.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from flava_plugin.sections_balance import DiagnoseSection
from flava_plugin.train import checkpoint

MOST = 0.03
"""Share of a run that diagnoses may cost at the default interval."""


def main() -> int:
    """Measure, and print a line for each pair and their mean.

    Returns:
        0, or 1 where diagnoses cost more than ``MOST`` or changed the weights.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=20, help="steps between diagnoses")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    steps, every, default = arguments.steps, arguments.every, DiagnoseSection().every
    costs = []
    for pair in range(arguments.pairs):
        with tempfile.TemporaryDirectory() as folder:
            with_, without = Path(folder) / "with", Path(folder) / "without"
            order = [with_, without] if pair % 2 else [without, with_]
            seconds = {
                path: _train(path, steps, every if path == with_ else None) for path in order
            }
            if not _same(with_, without):
                sys.stdout.write("diagnoses changed the weights\n")
                return 1
            step = (seconds[without] - _train(Path(folder) / "start", 1, None)) / (steps - 1)
        one = (seconds[with_] - seconds[without]) / (steps // every)
        costs.append(one / step)
        sys.stdout.write(
            f"without {seconds[without]:.1f} s, with {seconds[with_]:.1f} s: a diagnosis takes "
            f"{one:.3f} s or {one / step:.2f} steps; every {default} steps "
            f"{100 * one / step / default:.2f} % of a run\n"
        )
    mean = statistics.mean(costs)
    error = statistics.stdev(costs) / len(costs) ** 0.5 if len(costs) > 1 else float("nan")
    sys.stdout.write(
        f"mean of {len(costs)}: {mean:.2f} +- {error:.2f} steps, {100 * mean / default:.2f} % of a "
        f"run at the default of every {default} steps (at most {100 * MOST:g} %)\n"
    )
    return int(mean / default > MOST)


def _train(folder: Path, steps: int, every: int | None) -> float:
    command = [sys.executable, "-m", "flava_plugin", "train", "pretrain/shapes"]
    command += [f"run_dir={folder}", f"steps={steps}", "threads=1", "evaluate.every=0"]
    command += [f"balance.diagnose.every={every}"] if every else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=_environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _same(one: Path, other: Path) -> bool:
    folders = [checkpoint.find(run).folder for run in (one, other)]
    states = [json.loads((folder / "state.json").read_text())["files"] for folder in folders]
    return bool(states[0] == states[1])


if __name__ == "__main__":
    sys.exit(main())
