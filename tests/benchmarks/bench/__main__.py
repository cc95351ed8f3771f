"""``python -m tests.benchmarks.bench``: gate, time, measure, print, write."""

from __future__ import annotations

import gc
import json
import sys
import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from tests.benchmarks.bench import gpu, machine, memory, table
from tests.benchmarks.bench.alone import Job
from tests.benchmarks.bench.batches import KINDS, make_work
from tests.benchmarks.bench.goals import GPU_MFU
from tests.benchmarks.bench.options import parse
from tests.benchmarks.bench.rig import build_rig
from tests.benchmarks.bench.rows import RowSpec, plan, run_row
from tests.benchmarks.bench.sizes import SIZES
from tests.benchmarks.bench.stopwatch import Clock, Stopwatch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if a gate failed, for then a row has no number."""
    chosen = parse(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    on_gpu = chosen.device == "cuda" or (chosen.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if on_gpu else "cpu")
    clock: Clock = "cuda" if on_gpu else chosen.clock
    watch = Stopwatch(clock)
    report: dict[str, Any] = {"machine": machine.describe(clock), "rows": []}
    peak = gpu.matmul_peak(device) if on_gpu else None
    if peak is not None:
        report["matmul_peak"] = peak
    specs = plan(chosen.size, chosen.kinds, chosen.tokens, chosen.precision)
    for size, group in groupby(specs, key=lambda spec: spec.size):
        _say(f"building {size}")
        rig = build_rig(SIZES[size], device, compiled=chosen.compile)
        for spec in group:
            _say(f"{spec.size} {spec.kind} {spec.precision} tokens {spec.tokens}")
            row = run_row(
                spec,
                rig,
                watch,
                device,
                rounds=chosen.rounds,
                warmup=chosen.warmup,
                rows=chosen.rows,
                compiled=chosen.compile,
                timed=chosen.only,
            )
            if peak is not None and "ours" in row.get("seconds", {}):
                row["mfu"] = _mfu(spec, row, peak, chosen.rows, device)
            report["rows"].append(row)
        del rig
        gc.collect()
    if chosen.memory:
        report["memory"] = [
            memory.compare(_job(size, chosen, device), chosen.only) for size in chosen.size
        ]
    if chosen.cached:
        _say("cached contrastive step")
        report["cached"] = memory.cached_step(torch.get_num_threads())
    _show(report)
    if chosen.out:
        chosen.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return int(not all(row["passed"] for row in report["rows"]))


def _job(size: str, chosen: Any, device: torch.device) -> Job:
    _say(f"memory of {size}, each in its own process")
    return Job(
        "",
        size=size,
        given=chosen.tokens == ["given"],
        precision=chosen.precision[0] if device.type == "cpu" else chosen.precision[-1],
        rows=chosen.rows,
        threads=torch.get_num_threads(),
        device=device.type,
        compile=chosen.compile,
    )


def _mfu(
    spec: RowSpec, row: dict[str, Any], peak: float, rows: int, device: torch.device
) -> dict[str, float]:
    size, given = SIZES[spec.size], spec.tokens == "given"
    work = make_work(size, KINDS[spec.kind], given=given, rows=rows).to(device)
    flops = gpu.useful_flops(size, work, device)
    return {"flops": float(flops), "mfu": flops / row["seconds"]["ours"]["step"] / peak}


def _show(report: dict[str, Any]) -> None:
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    rows = report["rows"]
    print("\nseconds of a step (medians); x: times ours, medians of the rounds' ratios")
    print(table.times(rows), table.parts(rows), table.gates(rows), sep="\n\n")
    if any("distances" in row for row in rows):
        print("\n" + table.distances(rows))
    for row in rows:
        if "mfu" in row:
            share = row["mfu"]["mfu"]
            print(f"MFU, {table.name_of(row)}: {share:.1%}  {table.verdict(share, GPU_MFU)}")
    for found in report.get("memory", []):
        print("\n" + table.memory(found))
    if "cached" in report:
        print("\n" + table.cached(report["cached"]))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="torchmultimodal")
    sys.exit(main())
