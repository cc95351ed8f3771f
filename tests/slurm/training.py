"""Trainings on the local cluster: submitted, slowed down, broken, and compared with one process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from slurm.local_cluster import Cluster
from tests.recipes.tiny_run import lines, write_recipe

STEPS, EVERY = 24, 4
"""Of the run, and between two checkpoints."""

PATIENCE = 240.0
"""Seconds to wait for what takes 15 on two idle cores: four processes that load torch."""

# Dropout is drawn by rank, so runs of other sizes are the same only without it; with the usual eps
# AdamW turns rounding into whole steps where a gradient is nothing but rounding.
STILL = ("model.text_encoder.dropout=0", "optim.eps=1e-4")

OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
PICTURES = {"type": "shapes_images", "objects": 1, "size": 64}
EVALUATE = {
    "tasks": {
        "zero_shot": {"type": "zero_shot", "label": "color", "dataset": PICTURES}
        | {"class_names": ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "white"]}
        | {"templates": ["a {} thing", "the {} one"]},
        "scores": {"type": "class_cosine", "dataset": dict(PICTURES)},
    }
}


class Attempt(NamedTuple):
    """What one start of a job computed: its name ``JOB.RESTARTS``, and steps by rank."""

    name: str
    steps: dict[int, list[int]]


def variables(folder: Path) -> dict[str, str]:
    """Variables under which a training in ``folder`` finds its plugin and its orders."""
    return {
        "PYTHONPATH": str(Path(__file__).parent),
        "PACED_STEPS": str(folder),
        "OMP_NUM_THREADS": "1",
    }


def recipe_in(folder: Path, **changes: object) -> Path:
    fixed = {"steps": STEPS, "plugins": ["paced_steps"], "evaluate": EVALUATE}
    fixed["checkpoint"] = {"every": EVERY, "keep": 3}
    return write_recipe(folder, **{**fixed, **changes})


class Training:
    """A run of the tiny recipe in a folder of its own, and its job."""

    def __init__(self, cluster: Cluster, folder: Path, **changes: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster, self.folder, self.run_dir = cluster, folder, folder / "run"
        self.recipe = recipe_in(folder, **{"sharding": {"strategy": "ddp"}, **changes})
        self.job = ""

    def run(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command that finds ``flava``, ``torchrun`` and the plugin."""
        path = f"{Path(sys.executable).parent}:{self.cluster.environment()['PATH']}"
        env = {**variables(self.folder), "PATH": path}
        return self.cluster.run(*map(str, words), timeout=120, check=check, env=env)

    def flava(self, *words: object) -> str:
        return self.run(sys.executable, "-m", "flava_plugin", *words).stdout

    def submit(self, *words: str) -> str:
        """Submit the run by ``flava submit``; its id."""
        self.job = self.flava(
            "submit", self.recipe, *STILL, "--cluster", "local_cluster", *words
        ).strip()
        return self.job

    def sbatch(self, *options: str) -> str:
        """Submit the run by plain sbatch; its id."""
        script = Path(__file__).parents[2] / "slurm" / "flava.sbatch"
        words = ("--parsable", f"--output={self.folder}/job.out", *options, script)
        self.job = self.run("sbatch", *words, self.recipe, *STILL).stdout.strip()
        return self.job

    def order(self, **orders: object) -> None:
        """Say what the processes do from now on.

        Args:
            **orders: ``slow=(step, seconds)``: how long each takes from that one on;
                ``held=[JOB.RESTARTS, ...]``: starts that wait where they are;
                ``kill=(rank, step)``: that rank dies before that step.
        """
        draft = self.folder / "orders.draft"
        draft.write_text(json.dumps(orders), "utf-8")
        draft.rename(self.folder / "orders")

    def attempts(self, job: str = "") -> list[Attempt]:
        """The starts that came to compute something, in order, of one job."""
        path = self.folder / "notes"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        of_job = [row for row in rows if row[0].split(".")[0] == (job or self.job)]
        of_job.sort(key=lambda row: int(row[0].split(".")[1]))
        found = []
        for name, group in groupby(of_job, key=lambda row: row[0]):
            steps: dict[int, list[int]] = {}
            for _, _, rank, step in group:
                steps.setdefault(int(rank), []).append(int(step))
            found.append(Attempt(name, steps))
        return found

    def processes(self, rank: int | None = None) -> list[int]:
        """The processes of the latest start, or of its one rank."""
        rows = [line.split() for line in (self.folder / "notes").read_text().splitlines()]
        latest = self.attempts()[-1].name
        return sorted(
            {int(row[1]) for row in rows if row[0] == latest and rank in (None, int(row[2]))}
        )

    def facts(self, job: str = "") -> dict[str, str]:
        """What the controller says of the job, such as ``JobState`` and ``Restarts``."""
        text = self.cluster.run("scontrol", "show", "job", "-o", job or self.job).stdout
        return dict(re.findall(r"(?:^| )(\w+)=(\S*)", text))

    def state(self, job: str = "") -> str:
        return self.facts(job)["JobState"]

    def wait_for_step(self, step: int, ranks: int, restarts: int = 0) -> None:
        """Wait until every rank is at a step, or beyond, of a certain start."""

        def there() -> bool:
            latest = (self.attempts() or [Attempt("", {})])[-1]
            at = [steps[-1] for steps in latest.steps.values()]
            name = f"{self.job}.{restarts}"
            self.refuse_an_end()
            return latest.name == name and len(at) == ranks and min(at) >= step

        self.cluster.wait_until(there, f"step {step} of start {self.job}.{restarts}", PATIENCE)

    def refuse_an_end(self) -> None:
        state = self.state()
        assert state not in OVER, f"job {self.job} is {state}\n{self.cluster.report()}"

    def wait_for_restart(self, restarts: int, timeout: float = PATIENCE) -> None:
        """Wait until the job was requeued for the n-th time."""

        def requeued() -> bool:
            self.refuse_an_end()
            return int(self.facts()["Restarts"]) >= restarts

        self.cluster.wait_until(requeued, f"restart {restarts} of job {self.job}", timeout)

    def wait_for_end(self, job: str = "", state: str = "COMPLETED") -> None:
        """Wait until the job has ended; it has to be in a state then."""
        self.cluster.wait_until(
            lambda: self.state(job) in OVER, f"the end of job {job or self.job}", PATIENCE
        )
        found = self.state(job)
        assert found == state, f"job {job or self.job} is {found}\n{self.cluster.report()}"

    def redone(self) -> list[int]:
        """Steps that each start did again, those that the one before had only begun included.

        Every rank of a start has to compute the same steps, one after the other.
        """
        found, at = [], []
        for attempt in self.attempts():
            ranks = list(attempt.steps.values())
            for steps in ranks:
                assert steps == list(range(steps[0], steps[-1] + 1)), attempt
                assert steps[0] == ranks[0][0], attempt
            at.append((ranks[0][0], max(steps[-1] for steps in ranks)))
        for (_, last), (first, _) in pairwise(at):
            assert first <= last + 1, "a step was left out"
            found.append(last + 1 - first)
        return found

    def latest(self) -> int:
        return int((self.run_dir / "checkpoints" / "latest").read_text())

    def assert_same_run(self) -> None:
        """Every step's losses are those of the run of one process that nothing interrupts."""
        compare(lines(self.run_dir), alone().losses)
        assert self.latest() == STEPS


class Alone(NamedTuple):
    """The run of one process: its lines of metrics, its figures at an earlier step and at last."""

    losses: list[dict[str, Any]]
    earlier: dict[str, Any]
    figures: dict[str, Any]


@cache
def alone() -> Alone:
    """Train and evaluate the recipe in one process, once for all tests."""
    script = """
import json, pathlib, sys
from flava_plugin.cli.main import main
recipe, run, *still = sys.argv[1:]
assert main(["train", recipe, *still]) == 0
for which in (STEPS // 2, "latest"):
    assert main(["eval", run, "--no-report", "--checkpoint", str(which)]) == 0
    path = pathlib.Path(run, "results.json")
    path.rename(pathlib.Path(run, f"{which}.json"))
""".replace("STEPS", str(STEPS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = recipe_in(folder, checkpoint={"every": STEPS // 2, "keep": 2})
        words = [sys.executable, "-c", script, str(recipe), str(folder / "run"), *STILL]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        done = subprocess.run(
            words, env=clean | variables(folder), capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        read = [json.loads((folder / "run" / f"{w}.json").read_text()) for w in (12, "latest")]
        return Alone(lines(folder / "run"), *read)


def compare(rows: list[dict[str, Any]], reference: list[dict[str, Any]]) -> None:
    assert [row["step"] for row in rows] == [row["step"] for row in reference]
    for row, other in zip(rows, reference, strict=True):
        assert row.keys() == other.keys()
        for name, value in other.items():
            if name == "grad_norm":  # measured, not learnt from; its size is not a loss's
                assert abs(row[name] - value) <= 1e-4 * value, (row, other)
            elif isinstance(value, float):
                assert abs(row[name] - value) <= 1e-5, (name, row, other)
            else:
                assert row[name] == value, (name, row, other)
