"""The plan: a recipe's cost on some GPUs, all figures in one object.

Step time on a GPU: executed FLOPs over the dense peak times the assumed MFU; DALL-E's encoder over
the peak of TF32, the contrastive loss and fp32 recipes over that of fp32. AdamW moves 28 bytes for
each parameter that a kind of step reaches (reads parameter, gradient and two moments, writes
three), split over the ranks where the strategy splits its moments. On a CPU everything is timed
beforehand (``calibrate.py``). Gradients are sent while the last micro-batch's backward pass runs;
what takes longer than it is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass

from flava_plugin.plan.activations import kept_by_step, numbers_of
from flava_plugin.plan.blueprint import ENCODERS, Blueprint, draw, parameters
from flava_plugin.plan.calibrate import Rates, calibrate
from flava_plugin.plan.communication import Traffic, bandwidth, traffic
from flava_plugin.plan.devices import DEVICES, MFU, Device
from flava_plugin.plan.flops import Flops, step_flops, total
from flava_plugin.plan.memory import STRATEGIES, Peak, State, optimiser_ranks, peak_of, state_of
from flava_plugin.plan.options import Options
from flava_plugin.plan.workload import Work, workload
from flava_plugin.recipe import Recipe
from flava_plugin.recipe_balance import batches_of_step

ADAMW_BYTES = 28
"""Moved for each fp32 parameter: four numbers read, three written."""


@dataclass(frozen=True)
class StepPlan:
    """One kind of step on one GPU.

    Attributes:
        work: What it executes.
        flops: By part, all micro-batches.
        traffic: Under the recipe's strategy.
        seconds: Of computing, of the optimiser, of waiting for other ranks.
    """

    work: Work
    flops: dict[str, Flops]
    traffic: Traffic
    seconds: dict[str, float]

    @property
    def total_seconds(self) -> float:
        """Of the step."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one GPU under one strategy.

    Attributes:
        strategy: Its name.
        checkpointing: Whether every layer is computed anew in the backward pass.
        state: What stays.
        peaks: By kind of step.
        device: Whose allocator and libraries take their share.
    """

    strategy: str
    checkpointing: bool
    state: State
    peaks: list[Peak]
    device: Device

    @property
    def total(self) -> float:
        """Bytes at the worst moment."""
        above = max(peak.above for peak in self.peaks)
        return self.state.steady + self.device.heap * above + self.device.context


@dataclass(frozen=True)
class Plan:
    """What a run costs.

    Attributes:
        recipe: The recipe.
        options: What was assumed.
        device: What it runs on.
        blueprint: The model.
        steps: By kind of step.
        memory: Every strategy, without and with checkpointing.
        own: As the recipe says.
        mfu: Assumed; 0 on a CPU, which is measured.
        rates: Measured; None on a GPU.
        limit: The slowest link, bytes/s, and which it is.
    """

    recipe: Recipe
    options: Options
    device: Device
    blueprint: Blueprint
    steps: list[StepPlan]
    memory: list[MemoryPlan]
    own: MemoryPlan
    mfu: float
    rates: Rates | None
    limit: tuple[float, str]

    @property
    def mean_seconds(self) -> float:
        """Of a step: over the mixture's shares, of an accumulated one of all kinds together."""
        if self.recipe.balance.step == "accumulated":
            return sum(step.total_seconds for step in self.steps)
        return sum(step.work.share * step.total_seconds for step in self.steps)

    @property
    def samples_per_second(self) -> float:
        """Of all GPUs together."""
        rows = self.recipe.data.global_batch * batches_of_step(self.recipe)
        return rows / self.mean_seconds

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.recipe.steps * self.mean_seconds / 3600


def plan(recipe: Recipe, options: Options) -> Plan:
    """Work out what a recipe costs.

    Args:
        recipe: The recipe; none of its files has to be there.
        options: GPUs and assumptions.

    Returns:
        The plan.

    Raises:
        ValueError: Parts do not fit together, the batch does not come out even, or an encoder's
            or codebook's work is not known.
    """
    device = DEVICES[options.device]
    blueprint = draw(recipe, options)
    works = workload(recipe, blueprint, options)
    every = int(recipe.sharding.activation_checkpointing)
    strategy = recipe.sharding.strategy
    limit = bandwidth(device, options)
    mfu = options.mfu or MFU
    rates = None if device.matmul else calibrate(recipe, blueprint, works)
    steps = []
    for work in works:
        flops = step_flops(blueprint, work, every)
        sent = traffic(blueprint, work, strategy, options.gpus)
        if rates is None:
            seconds = _gpu_seconds(blueprint, recipe, options, flops, mfu)
        else:
            seconds = _cpu_seconds(blueprint, work, flops, rates)
        whole = total([*flops.values()])
        backward = seconds["computing"] * whole.backward / whole.executed
        waiting = waiting_seconds(sent, backward, work.micro_batches, limit[0])
        seconds["waiting for other ranks"] = waiting
        steps.append(StepPlan(work, flops, sent, seconds))

    table = [
        _memory(recipe, options, blueprint, works, name, recompute)
        for name in STRATEGIES
        for recompute in (0, 1)
    ]
    own = _memory(recipe, options, blueprint, works, strategy, every)
    shown = 0.0 if rates else mfu
    return Plan(recipe, options, device, blueprint, steps, table, own, shown, rates, limit)


def memory_of(recipe: Recipe, options: Options, blueprint: Blueprint) -> MemoryPlan:
    """Work out what a recipe needs as it is, without timing anything.

    Args:
        recipe: The recipe.
        options: GPUs and assumptions.
        blueprint: Its model.

    Returns:
        Memory of one GPU.
    """
    works, section = workload(recipe, blueprint, options), recipe.sharding
    every = int(section.activation_checkpointing)
    return _memory(recipe, options, blueprint, works, section.strategy, every)


def _memory(
    recipe: Recipe,
    options: Options,
    blueprint: Blueprint,
    works: list[Work],
    strategy: str,
    recompute_every: int,
) -> MemoryPlan:
    state = state_of(blueprint, strategy, options.gpus)
    numbers = numbers_of(recipe.precision, options.device)
    on_host = options.device == "cpu"
    peaks = []
    for work in works:
        kept = kept_by_step(blueprint, work, numbers, recompute_every)
        peaks.append(peak_of(blueprint, work, kept, state, recipe.data.image, on_host=on_host))
    return MemoryPlan(strategy, bool(recompute_every), state, peaks, DEVICES[options.device])


def _gpu_seconds(
    blueprint: Blueprint, recipe: Recipe, options: Options, flops: dict[str, Flops], mfu: float
) -> dict[str, float]:
    device = DEVICES[options.device]
    trained = [f.executed for part, f in flops.items() if part not in ("codebook", "contrastive")]
    computing = sum(trained) / (device.matmul[recipe.precision] * mfu)
    convolves = blueprint.codebook is not None and blueprint.codebook.convolves
    for part, precision in (("codebook", "tf32" if convolves else "fp32"), ("contrastive", "fp32")):
        if part in flops:
            computing += flops[part].executed / (device.matmul[precision] * mfu)
    ranks = optimiser_ranks(recipe.sharding.strategy, options.gpus)
    moved = ADAMW_BYTES * _updated(blueprint, flops) / ranks
    return {"computing": computing, "optimiser": moved / device.bandwidth}


def _updated(blueprint: Blueprint, flops: dict[str, Flops]) -> int:
    """Parameters that a kind of step reaches; the others have no gradient and stay."""
    counts = parameters(blueprint)
    return sum(counts[part] for part in flops if part in counts)


def _cpu_seconds(
    blueprint: Blueprint, work: Work, flops: dict[str, Flops], rates: Rates
) -> dict[str, float]:
    computing, encoders = 0.0, []
    for part, count in flops.items():
        if part in ENCODERS:
            encoders.append(rates.layers[work.kind, part])
            computing += count.executed / encoders[-1]
    slowest = min(encoders)
    for part, count in flops.items():
        if part == "codebook":
            computing += rates.codebook * work.coded_rows * work.micro_batches
        elif part.startswith("head ") and rates.heads < float("inf"):
            computing += count.executed / rates.heads
        elif part not in ENCODERS:
            computing += count.executed / slowest
    starts = len(work.passes) + len(work.first_pass) + 2 * len(work.heads)
    computing += rates.calls * starts * work.micro_batches
    updated = _updated(blueprint, flops)
    share = updated / sum(parameters(blueprint).values())
    tensors = share * len([*blueprint.learner.parameters()])
    return {"computing": computing, "optimiser": rates.adamw * updated + rates.tensor * tensors}


def waiting_seconds(sent: Traffic, backward: float, micro_batches: int, speed: float) -> float:
    """Work out what communication adds to a step.

    Gradients are sent during the backward pass of the last micro-batch alone (``no_sync`` in
    ``train/step.py``), parameters gathered during all of it.

    Args:
        sent: The step's volumes.
        backward: Seconds of the backward passes of all micro-batches.
        micro_batches: How many there are.
        speed: Of the slowest link, bytes/s.

    Returns:
        Seconds that nothing hides.
    """
    gradients = (sent.all_reduce + sent.reduce_scatter) / speed
    late = max(gradients - backward / micro_batches, sent.hidden / speed - backward, 0.0)
    return late + (sent.total - sent.hidden) / speed
