"""Warnings of a plan: what does not fit the device, and what would."""

from __future__ import annotations

import os

from flava_plugin.plan.options import Options
from flava_plugin.plan.predict import Plan, memory_of
from flava_plugin.recipe import Recipe


def machine_memory() -> float:
    """Find out this machine's memory.

    Returns:
        Bytes; 0 where the system does not say.
    """
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return 0.0


def warnings(found: Plan) -> list[str]:
    """Find what stands in the way of a plan.

    Args:
        found: The plan.

    Returns:
        A line for each problem, with ways out that were computed.
    """
    lines = []
    strategy, gpus = found.own.strategy, found.options.gpus
    if strategy == "none" and gpus > 1:
        lines.append(
            f"sharding.strategy 'none' is for one process, not {gpus}; use sharding.strategy=ddp"
        )
    if found.recipe.balance.step == "accumulated":
        lines.append(
            "balance.step accumulated: the memory planned lacks the gradients kept from kind to "
            "kind, one set more, and under surgery one for each objective; nor are surgery's "
            "passes for each objective in the time"
        )
    room = found.device.memory or machine_memory()
    if room and found.own.total > room:
        ways = _ways_out(found, room)
        lines.append(
            f"does not fit: {found.own.total / 1e9:.1f} GB of {room / 1e9:.0f} GB on "
            f"{found.device.name}; " + ("; or ".join(ways) or "no change tried here would fit")
        )
    return lines


def even_batch(recipe: Recipe, options: Options) -> tuple[Recipe, list[str]]:
    """Change a global batch that does not come out even, so that the rest can still be planned.

    Args:
        recipe: The recipe.
        options: Holds the number of GPUs.

    Returns:
        The recipe, with the next larger batch where its own does not come out even, and a line
        that says so.
    """
    whole, rows = recipe.data.global_batch, recipe.data.per_gpu_batch or 1
    part = rows * options.gpus
    if whole % part == 0:
        return recipe, []
    near = sorted({max(1, whole // part) * part, (whole // part + 1) * part})
    data = recipe.data.model_copy(update={"global_batch": near[-1]})
    return recipe.model_copy(update={"data": data}), [
        f"data.global_batch {whole} is not a multiple of {part} ({rows} rows on {options.gpus} "
        f"ranks), and training would refuse it; planned with {near[-1]}: take "
        f"{' or '.join(map(str, near))}, or change data.per_gpu_batch"
    ]


def _ways_out(found: Plan, room: float) -> list[str]:
    recipe, ways = found.recipe, []
    checkpointed = [m for m in found.memory if m.strategy == found.own.strategy and m.checkpointing]
    if any(m.total <= room for m in checkpointed):
        ways.append("sharding.activation_checkpointing=true")
    rows = found.steps[0].work.rows
    while rows > 1:
        rows //= 2
        if recipe.data.global_batch % (rows * found.options.gpus):
            continue
        data = recipe.data.model_copy(update={"per_gpu_batch": rows})
        smaller = recipe.model_copy(update={"data": data})
        if memory_of(smaller, found.options, found.blueprint).total <= room:
            ways.append(f"data.per_gpu_batch={rows}")
            break
    fitting = [
        m.strategy
        for m in found.memory
        if m.total <= room
        and not m.checkpointing
        and m.strategy not in ("none", found.own.strategy)
        and not (m.strategy == "fairscale_fsdp" and found.options.device == "cpu")
    ]
    if fitting and found.options.gpus > 1:
        ways.append(f"sharding.strategy={fitting[0]}")
    return ways
