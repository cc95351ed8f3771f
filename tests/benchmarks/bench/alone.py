"""One job in a process of its own, for peaks of memory: ``python -m tests.benchmarks.bench.alone``.

The argument is a ``Job`` in JSON, and so is what is printed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What sets the peak of resident memory back to what is resident now (proc(5))."""


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        name: An implementation, or ``cached`` for the cached contrastive step.
        size: Name of a size; not read by ``cached``.
        kind: Name of a kind of batch; not read by ``cached``.
        given: Whether the codebook's tokens come with the batch.
        precision: ``fp32`` or ``bf16``.
        rows: Rows of the batch; 0 for the size's own.
        steps: Training steps made.
        threads: CPU threads.
        device: ``cpu`` or ``cuda``.
        compile: Whether ours is compiled.
    """

    name: str
    size: str = "small"
    kind: str = "pair_padded"
    given: bool = False
    precision: str = "fp32"
    rows: int = 0
    steps: int = 3
    threads: int = 1
    device: str = "cpu"
    compile: bool = False


@dataclass(frozen=True)
class Peak:
    """Memory of a process, in MiB: resident on a CPU, allocated by torch on a GPU.

    Attributes:
        built: With the model and the batch in place, before the first step.
        peak: The most during the steps.
        reset: Whether the peak was counted from ``built`` on; without, building may hide it.
    """

    built: float
    peak: float
    reset: bool = True

    @property
    def above(self) -> float:
        """What the steps added."""
        return self.peak - self.built


def in_own_process(job: Job) -> Peak:
    """Run a job in a fresh interpreter.

    Raises:
        subprocess.CalledProcessError: It failed; its output is on stderr.
    """
    command = [sys.executable, "-m", "tests.benchmarks.bench.alone", json.dumps(asdict(job))]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def measure(steps: Callable[[], None], device: torch.device) -> Peak:
    """Run something and watch the memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        steps()
        torch.cuda.synchronize()
        return Peak(allocated / 2**20, torch.cuda.max_memory_allocated() / 2**20)
    _give_back()
    built = resident("VmRSS")
    try:
        CLEAR.write_text(RESET_PEAK)
        reset = True
    except OSError:
        reset = False
    steps()
    return Peak(built, resident("VmHWM"), reset)


def resident(field: str) -> float:
    """A field of this process's status, in MiB: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in STATUS.read_text("ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) / 1024
    raise LookupError(f"{STATUS} has no {field}; peaks can be measured on Linux only")


def _give_back() -> None:
    """Have the C library give back what building left over, or a peak could hide in it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def run(job: Job) -> Peak:
    """Do a job in this process."""
    torch.set_num_threads(job.threads)
    if job.name == "cached":
        from tests.benchmarks.bench.cached import step_of

        step = step_of(job.rows)

        def repeat() -> None:
            for _ in range(job.steps):
                step()

        return measure(repeat, torch.device("cpu"))
    from tests.benchmarks.bench.batches import KINDS, make_work
    from tests.benchmarks.bench.rig import build_alone
    from tests.benchmarks.bench.sizes import SIZES
    from tests.benchmarks.bench.stopwatch import Stopwatch

    device = torch.device(job.device)
    size = SIZES[job.size]
    implementation = build_alone(job.name, size, device, compiled=job.compile)
    work = make_work(
        size, KINDS[job.kind], given=job.given, rows=job.rows, compiled=job.compile
    ).to(device)

    def steps() -> None:
        for _ in range(job.steps):
            implementation.gradients(work, job.precision, Stopwatch())  # type: ignore[arg-type]
            implementation.update()

    return measure(steps, device)


if __name__ == "__main__":
    print(json.dumps(asdict(run(Job(**json.loads(sys.argv[1]))))))
