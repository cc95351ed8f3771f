"""A recipe's plugin: notes each step that a process computes, and slows it where a test says so.

In the folder of the variable PACED_STEPS every process appends ``JOB.RESTARTS PID RANK STEP`` to
``notes`` before it computes a step, so that nothing a resumed run cuts off is lost; in ``orders`` a
test says from which step on a step takes how long, which starts are held where they are, and which
rank is killed before which step. A process that was asked to stop waits no longer.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from flava_plugin import registry
from flava_plugin.data.steps import Step, Steps, Turn
from flava_plugin.evaluate.samples import keyed, open_dataset
from flava_plugin.evaluate.zero_shot import prompt_ensemble
from flava_plugin.schema import DatasetSpec

FOLDER = "PACED_STEPS"
read = Steps.__getitem__


def note(folder: Path, *words: object) -> None:
    """Append a line by one write, so that processes do not mix theirs."""
    handle = os.open(folder / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(handle)


def obey(folder: Path, start: str, rank: int, step: int) -> None:
    """Wait as long as the orders say, which may change meanwhile."""
    began = time.monotonic()
    while True:
        path = folder / "orders"
        orders = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        if orders.get("kill") == [rank, step]:
            os.kill(os.getpid(), signal.SIGKILL)
        slow_from, seconds = orders.get("slow", (0, 0))
        slow = step >= slow_from and time.monotonic() - began < seconds
        asked = getattr(getattr(signal.getsignal(signal.SIGUSR2), "__self__", None), "signum", 0)
        if asked or (not slow and start not in orders.get("held", ())):
            return
        time.sleep(0.05)


def paced(steps: Steps, turn: Turn) -> Step:
    """Read a step, note it, and wait."""
    batch, step = read(steps, turn), turn.step
    if FOLDER in os.environ:
        folder = Path(os.environ[FOLDER])
        job, restarts = (os.environ.get(f"SLURM_{n}", "0") for n in ("JOB_ID", "RESTART_COUNT"))
        start = f"{job}.{restarts}"
        note(folder, start, os.getpid(), steps.rank, step)
        obey(folder, start, steps.rank, step)
    return batch


Steps.__getitem__ = paced  # type: ignore[method-assign]


@registry.evaluators.register("class_cosine")
def class_cosine(*, dataset: DatasetSpec, split: str = "dev") -> Any:
    """Measure the scores that zero-shot classification ranks, which depend on every weight.

    An accuracy of a run of seconds hardly does: such a model may find one class everywhere.
    """
    pictures = open_dataset(dataset, split)

    def measure(flava: Any) -> dict[str, float | int]:
        samples = [sample for _, sample in keyed(pictures)]
        classes = prompt_ensemble(flava, pictures.class_names, pictures.templates)
        scores = flava.encode_image([sample.image for sample in samples]) @ classes.T
        right = torch.tensor([[sample.extra["class"]] for sample in samples])
        return {
            "right": scores.gather(1, right).mean().item(),
            "all": scores.mean().item(),
            "spread": scores.std(1).mean().item(),
        }

    return measure
