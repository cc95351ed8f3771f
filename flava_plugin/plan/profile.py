"""Runs a few real steps of a recipe and says where they go; no run folder is read or written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch.profiler import profile as torch_profile

from flava_plugin import registry
from flava_plugin.data.loader import load_steps
from flava_plugin.data.mixture_run import fixed_mixture
from flava_plugin.data.steps import Step
from flava_plugin.model.execution import compile_layers, text_multiple
from flava_plugin.model.learner import Learner, build_learner, hides
from flava_plugin.recipe import Recipe, RecipeError
from flava_plugin.train.optim import clamp_logit_scale, lr_at, set_lr
from flava_plugin.train.profiling import Sections, watch
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World, connect, disconnect
from flava_plugin.types import MODALITIES, Modality

WARM_UP = 3
"""Steps of each kind that are not counted: they load kernels, grow buffers and start readers."""

PROFILED = 2
"""Further steps of each kind under torch's profiler, which slows them down."""

TOP = 12
"""Operations shown."""


@dataclass(frozen=True)
class KindProfile:
    """Where the steps of one kind go.

    Attributes:
        kind: What their batches hold.
        sections: Mean seconds by section.
        step: Mean seconds of a step, taken by itself.
        steps: How many were counted.
    """

    kind: Modality
    sections: dict[str, float]
    step: float
    steps: int


@dataclass(frozen=True)
class Operation:
    """One of torch's operations in the profiled steps.

    Attributes:
        name: As torch has it.
        seconds: Its own time, without what it calls, in a step on average.
        calls: In a step on average.
    """

    name: str
    seconds: float
    calls: float


@dataclass(frozen=True)
class Profile:
    """What was found.

    Attributes:
        device: Where it ran.
        kinds: By kind of step.
        operations: The most expensive ones, over the kinds' profiled steps.
        rank: Of this process.
    """

    device: str
    kinds: list[KindProfile]
    operations: list[Operation]
    rank: int


def profile(
    recipe: Recipe, *, steps: int = 10, kind: Modality | None = None, trace: Path | None = None
) -> Profile:
    """Profile a recipe's training step, its data loader included.

    Args:
        recipe: The checked recipe; every process of torchrun or srun gets the same one.
        steps: Steps of each kind that are counted.
        kind: The only kind to run; None for each that has a source.
        trace: Where to write a trace for Chrome or Perfetto; None for nowhere.

    Returns:
        The profile.

    Raises:
        RecipeError: No source feeds that kind of step.
        OSError: The trace could not be written.
    """
    fed = {source.modality for source in recipe.data.sources.values()}
    kinds = [known for known in MODALITIES if known in fed and kind in (None, known)]
    if not kinds:
        raise RecipeError([f"--kind {kind}: no source has this modality; there is {sorted(fed)}"])
    with ExitStack() as stack:
        stack.enter_context(_threads(recipe.threads))
        stack.callback(disconnect)
        world = connect(recipe.device)
        spec = recipe.data.tokenizer
        tokenizer = registry.tokenizers.build(spec.type, **spec.options)
        learner = build_learner(
            recipe.model,
            recipe.objectives,
            words=tokenizer.vocab_size,
            image_size=recipe.data.image.size,
            seed=recipe.seed,
            attention=recipe.attention,
            activation_checkpointing=recipe.sharding.activation_checkpointing,
        )
        if recipe.compile:
            compile_layers(learner.backbone)
        strategy = make_strategy(recipe.sharding, learner, recipe.optim, world)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if world.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        options: dict[str, Any] = {"activities": activities}
        if "acc_events" in signature(torch_profile).parameters:  # torch 2.6; else it warns
            options["acc_events"] = True
        profiler = torch_profile(**options)
        found, batches = [], []
        for each in kinds:
            counted = WARM_UP + steps
            reading = _read(recipe, learner, tokenizer, world, each, counted + PROFILED)
            found.append(_measure(recipe, learner, strategy, world, each, reading, counted))
            batches += [next(reading) for _ in range(PROFILED)]
        sections = Sections(world.device)
        with profiler, watch(sections, learner, strategy, world):
            for batch in batches:
                with torch.profiler.record_function(f"flava: {batch.modality} step"):
                    _step(recipe, learner, strategy, world, batch)
        if trace is not None and world.rank == 0:
            profiler.export_chrome_trace(str(trace))
            if not trace.is_file():  # torch only logs what it could not write
                raise OSError(f"--trace {trace}: torch could not write it")
        operations = _operations(profiler, len(batches))
        return Profile(str(world.device), found, operations, world.rank)


def _measure(
    recipe: Recipe,
    learner: Learner,
    strategy: Strategy,
    world: World,
    kind: Modality,
    reading: Iterator[Step],
    count: int,
) -> KindProfile:
    sections, sums, whole = Sections(world.device), dict[str, float](), 0.0
    total = Sections(world.device)  # the step by itself, marked at its ends only
    with watch(sections, learner, strategy, world):
        for number in range(count):
            total.start()
            sections.start()
            with sections.section("waiting for data"):
                batch = next(reading)
            _step(recipe, learner, strategy, world, batch, sections)
            found, step = sections.stop(), total.stop()
            if number >= WARM_UP:
                whole += sum(step.values())
                for name, seconds in found.items():
                    sums[name] = sums.get(name, 0.0) + seconds
    counted = count - WARM_UP
    means = {name: seconds / counted for name, seconds in sums.items()}
    return KindProfile(kind, means, whole / counted, counted)


def _step(
    recipe: Recipe,
    learner: Learner,
    strategy: Strategy,
    world: World,
    batch: Step,
    sections: Sections | None = None,
) -> None:
    """What the training loop does with a batch."""
    set_lr(strategy.optimizer, lr_at(batch.step, recipe.optim, recipe.steps))
    train_step(
        strategy,
        learner,
        batch.micro_batches,
        {name: objective.weight for name, objective in recipe.objectives.items()},
        world,
        (recipe.seed, batch.step),
        precision=recipe.precision,
    )
    strategy.clip_grad_norm(recipe.optim.clip_norm)
    strategy.step()
    if sections is None:
        clamp_logit_scale(strategy.parameters(), recipe.optim.max_logit_scale)
        return
    with sections.section("optimiser"):
        clamp_logit_scale(strategy.parameters(), recipe.optim.max_logit_scale)


def _read(
    recipe: Recipe,
    learner: Learner,
    tokenizer: Any,
    world: World,
    kind: Modality,
    last: int,
) -> Iterator[Step]:
    """Read steps of one kind, as the training loop reads them all."""
    sources = {n: s for n, s in recipe.data.sources.items() if s.modality == kind}
    section = recipe.data.model_copy(update={"sources": sources})
    datasets = {
        name: registry.datasets.build(source.dataset.type, **source.dataset.options)
        for name, source in sources.items()
    }
    patches = cast(int, learner.backbone.image_encoder.num_patches)
    steps = load_steps(
        section,
        fixed_mixture({n: s.share or 1.0 for n, s in sources.items()}, recipe.seed),
        datasets,
        tokenizer,
        seed=recipe.seed,
        first=0,
        last=last,
        rank=world.rank,
        size=world.size,
        patch_grid=math.isqrt(patches),
        with_codebook=any(getattr(h, "needs_codes", False) for h in learner.heads.values()),
        masked=hides(learner),
        text_multiple=text_multiple(
            compiled=recipe.compile, padding_is_read=recipe.model.padding == "released"
        ),
    )
    return iter(steps)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _operations(profiler: Any, steps: int) -> list[Operation]:
    found = []
    for event in profiler.key_averages():
        if event.key.startswith("flava: ") or event.key.startswith("ProfilerStep"):
            continue
        own = getattr(event, "self_device_time_total", 0) or event.self_cpu_time_total
        found.append(Operation(event.key, own / 1e6 / steps, event.count / steps))
    return sorted(found, key=lambda op: op.seconds, reverse=True)[:TOP]


def text(found: Profile) -> str:
    """Lay a profile out for reading.

    Args:
        found: The profile.

    Returns:
        A table of sections for each kind of step, and one of operations.
    """
    blocks = []
    for each in found.kinds:
        lines = [
            f"{each.kind}: {1000 * each.step:.1f} ms a step on {found.device}, {each.steps} steps"
        ]
        for name, seconds in each.sections.items():
            if seconds:
                share = seconds / each.step
                lines.append(f"  {name:20} {1000 * seconds:10.2f} ms {share:7.1%}")
        blocks.append("\n".join(lines))
    names = max((len(op.name) for op in found.operations), default=0)
    lines = ["operations, in a step on average, under torch's profiler"]
    lines += [
        f"  {op.name.ljust(names)} {1000 * op.seconds:10.2f} ms {op.calls:8.1f} calls"
        for op in found.operations
    ]
    return "\n\n".join([*blocks, "\n".join(lines)])
