"""A plan as text and as plain data."""

from __future__ import annotations

from typing import Any

from flava_plugin.plan.blueprint import parameters
from flava_plugin.plan.flops import total
from flava_plugin.plan.predict import Plan
from flava_plugin.plan.shares import mean_shares

GB = 1e9


def text(found: Plan, warned: list[str]) -> str:
    """Lay a plan out for reading.

    Args:
        found: The plan.
        warned: Lines of ``fit.warnings``.

    Returns:
        Paragraphs of tables, warnings last.
    """
    blocks = [_assumed(found), _parameters(found), _flops(found), _memory(found), _traffic(found)]
    blocks += [_time(found), "\n".join(f"warning: {line}" for line in warned)]
    return "\n\n".join(block for block in blocks if block)


def grid(rows: list[list[str]]) -> str:
    """Align cells: the first column left, the others right.

    Args:
        rows: Cells; the first row is the header.

    Returns:
        Lines.
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def assumptions(found: Plan) -> list[str]:
    """What the figures rest on.

    Args:
        found: The plan.

    Returns:
        Lines.
    """
    options, works = found.options, [step.work for step in found.steps]
    lines = [f"{options.gpus} x {found.device.name}, {found.recipe.precision}"]
    lines.append(f"  {found.device.source}")
    for work in works:
        if work.tokens:
            option = "--pair-tokens" if work.kind == "pair" else "--text-tokens"
            lines.append(f"{work.kind}: texts of {work.tokens:g} tokens on average ({option})")
    if found.rates is None:
        lines.append(f"MFU {found.mfu:.0%} of the dense peak (--mfu)")
    else:
        layers = ", ".join(
            f"{kind} {part} {rate / 1e9:.0f}" for (kind, part), rate in found.rates.layers.items()
        )
        lines.append(f"measured in {found.rates.seconds:.1f} s, GFLOP/s of a layer: {layers}")
        lines.append(
            f"  heads {found.rates.heads / 1e9:.0f} GFLOP/s; AdamW "
            f"{1e9 * found.rates.adamw:.2f} ns for each parameter and "
            f"{1e6 * found.rates.tensor:.0f} us for each tensor; "
            f"{1000 * found.rates.calls:.2f} ms to start a layer's operations; "
            f"codebook {1000 * found.rates.codebook:.2f} ms for each image"
        )
    lines.append(
        f"memory: {found.device.heap:.2f} times the bytes alive in a step, and "
        f"{found.device.context / 2**20:.0f} MiB for the libraries"
    )
    if options.gpus > 1:
        lines.append(
            f"slowest link: {found.limit[0] / GB:g} GB/s {found.limit[1]} "
            "(--link, --network, --gpus-per-node)"
        )
    lines.append("reading data keeps up; nothing waits for it")
    return lines + mean_shares(found.recipe)[1] + list(found.blueprint.assumed)


def _assumed(found: Plan) -> str:
    return "Assumed\n" + "\n".join(f"  {line}" for line in assumptions(found))


def _parameters(found: Plan) -> str:
    counts = parameters(found.blueprint)
    rows = [["Parameters", "number"]] + [[part, f"{count:,}"] for part, count in counts.items()]
    rows.append(["trainable in all", f"{sum(counts.values()):,}"])
    if found.blueprint.codebook:
        rows.append(["codebook, frozen", f"{found.blueprint.codebook.parameters:,}"])
    return grid(rows)


def _flops(found: Plan) -> str:
    kinds = [step.work.kind for step in found.steps]
    rows = [["GFLOP of a step on one GPU", *kinds, "mean"]]
    names = dict.fromkeys(part for step in found.steps for part in step.flops)
    share = [step.work.share for step in found.steps]

    def row(name: str, values: list[float]) -> list[str]:
        mean = sum(s * v for s, v in zip(share, values, strict=True)) / sum(share)
        return [name, *(f"{value / 1e9:,.2f}" for value in (*values, mean))]

    for part in names:
        rows.append(
            row(part, [s.flops[part].executed if part in s.flops else 0.0 for s in found.steps])
        )
    sums = [total([*step.flops.values()]) for step in found.steps]
    rows.append(row("forward", [s.forward for s in sums]))
    rows.append(row("backward", [s.backward for s in sums]))
    rows.append(row("computed again", [s.again for s in sums]))
    rows.append(row("useful, as MFU counts", [s.useful for s in sums]))
    rows.append(["share of steps", *(f"{s:.0%}" for s in share), ""])
    return grid(rows)


def _memory(found: Plan) -> str:
    kinds = [peak.kind for peak in found.own.peaks]
    rows = [["GB of one GPU", "state", *(f"peak {kind}" for kind in kinds), "all"]]
    for each in (found.own, *found.memory):
        again = " + checkpointing" if each.checkpointing else ""
        name = f"{each.strategy}{again}"
        rows.append(
            [
                f"this recipe: {name}" if each is found.own else name,
                f"{each.state.steady / GB:.3f}",
                *(f"{peak.above / GB:.3f}" for peak in each.peaks),
                f"{each.total / GB:.3f}",
            ]
        )
    section = found.recipe.data
    worst = max(peak.batch for peak in found.own.peaks)
    whole = worst * found.steps[0].work.micro_batches
    ahead = 1 + section.workers * section.prefetch
    logits = max(
        (4.0 * min(h.positions, h.chunk) * h.vocabulary for s in found.steps for h in s.work.heads),
        default=0.0,
    )
    block = max(4.0 * s.work.rows * s.work.global_rows * s.work.compares for s in found.steps)
    activations = ", ".join(f"{p.kind} {p.activations / GB:.3f}" for p in found.own.peaks)
    return "\n".join(
        [
            grid(rows),
            f"of these: activations of a micro-batch {activations}; largest chunk of logits "
            f"{logits / GB:.3f}, contrastive block {block / GB:.3f}",
            f"host memory of each process's loader: {whole * ahead / GB:.3f} ({ahead} steps)",
        ]
    )


def _traffic(found: Plan) -> str:
    if found.options.gpus == 1:
        return ""
    rows = [["MB through one GPU, each way", *(step.work.kind for step in found.steps)]]
    for name in ("all_reduce", "reduce_scatter", "all_gather", "broadcast", "contrastive"):
        values = [getattr(step.traffic, name) for step in found.steps]
        if any(values):
            rows.append([name.replace("_", "-"), *(f"{value / 1e6:,.1f}" for value in values)])
    seconds = [step.traffic.total / found.limit[0] for step in found.steps]
    rows.append(["ms at the slowest link", *(f"{1000 * s:,.2f}" for s in seconds)])
    return grid(rows)


def _time(found: Plan) -> str:
    rows = [["ms of a step", *(step.work.kind for step in found.steps)]]
    for name in found.steps[0].seconds:
        rows.append([name, *(f"{1000 * step.seconds[name]:,.2f}" for step in found.steps)])
    rows.append(["all", *(f"{1000 * step.total_seconds:,.2f}" for step in found.steps)])
    return "\n".join(
        [
            grid(rows),
            f"mean step {1000 * found.mean_seconds:,.1f} ms, {found.samples_per_second:,.1f} "
            f"samples/s, {found.recipe.steps:,} steps in {found.hours:,.2f} hours",
        ]
    )


def plain(found: Plan, warned: list[str]) -> dict[str, Any]:
    """Turn a plan into what JSON can hold.

    Args:
        found: The plan.
        warned: Lines of ``fit.warnings``.

    Returns:
        Bytes, seconds, FLOPs; no rounding.
    """
    return {
        "assumed": assumptions(found),
        "parameters": parameters(found.blueprint),
        "trainable": sum(parameters(found.blueprint).values()),
        "steps": {
            step.work.kind: {
                "share": step.work.share,
                "rows": step.work.rows,
                "micro_batches": step.work.micro_batches,
                "flops": {part: vars(flops) for part, flops in step.flops.items()},
                "useful_flops": total([*step.flops.values()]).useful,
                "traffic": vars(step.traffic),
                "seconds": step.seconds,
            }
            for step in found.steps
        },
        "memory": [
            {
                "strategy": each.strategy,
                "checkpointing": each.checkpointing,
                "state": vars(each.state),
                "peaks": {peak.kind: vars(peak) for peak in each.peaks},
                "total": each.total,
                "own": each is found.own,
            }
            for each in (found.own, *found.memory)
        ],
        "mean_seconds": found.mean_seconds,
        "samples_per_second": found.samples_per_second,
        "hours": found.hours,
        "warnings": warned,
    }
