"""One optimiser step's gradients, the same whatever the ranks and micro-batches.

Every term is a sum over counted rows, divided by their number over all ranks and micro-batches,
so a result does not depend on how rows fell. Three paths, chosen by what there is to do:

- plain: one micro-batch; a forward and a backward.
- accumulated: several, and no objective compares rows; one forward and backward each.
- cached: several, and an objective compares all rows of the global batch; a first pass without
  gradients collects the embeddings (see ``global_loss.py``), the second is that of ``accumulated``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from flava_plugin.model.learner import Learner
from flava_plugin.train.global_loss import Embeddings, GlobalLoss, Gradients, differentiate
from flava_plugin.train.heap import give_back
from flava_plugin.train.sharding import Strategy
from flava_plugin.train.world import World
from flava_plugin.types import Batch

Precision = Literal["fp32", "bf16", "fp16"]

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

PARTS = ("image", "text", "log_scale")
"""Outputs of a global objective, each named ``objective.part``."""


def train_step(
    strategy: Strategy,
    learner: Learner,
    micro_batches: Sequence[Batch],
    weights: Mapping[str, float],
    world: World,
    dropout_seed: Sequence[int],
    *,
    precision: Precision = "fp32",
    loss_scale: float = 1.0,
    objective: str | None = None,
) -> dict[str, Tensor]:
    """Compute the gradients of one optimiser step; clipping and updating are the caller's.

    Args:
        strategy: Holds the learner; its earlier gradients are dropped.
        learner: The learner itself, which counts; its forward goes through the strategy.
        micro_batches: This rank's part of the global batch, all of one modality, which is the same
            on every rank, as is their number; on any device.
        weights: Factor of each objective in the total.
        world: This process's place.
        dropout_seed: What dropout depends on besides rank and micro-batch: the recipe's seed and
            the step.
        precision: Of the forward pass.
        loss_scale: What the gradients are multiplied by, until ``Strategy.clip_grad_norm``.
        objective: The only one to compute, as if there were no other; None for all.

    Returns:
        The mean loss of every objective over the counted rows of all ranks and micro-batches,
        detached 0-dim fp32, the same on every rank; 0 where no row counts. Nothing is added up
        across objectives.
    """
    strategy.zero_grad()
    counts, rows = _count(learner, micro_batches, world)
    only: dict[str, Any] = {}
    if objective is not None:
        counts, only = {objective: counts[objective]}, {"objective": objective}
    compared = [name for name in counts if learner.is_global(name)]
    # Torch averages gradients over ranks, and a sum is wanted.
    factors = {
        name: weights[name] * loss_scale * world.size / max(n, 1) for name, n in counts.items()
    }
    sums = {name: torch.zeros((), device=world.device) for name in counts}

    def forward(index: int, **options: Any) -> dict[str, Tensor]:
        batch = micro_batches[index].to(world.device).as_floats()
        kind, mixed = KINDS[precision], precision != "fp32"
        autocast = torch.autocast(world.device.type, kind if mixed else None, enabled=mixed)
        with autocast, _dropout((*dropout_seed, world.rank, index), world.device):
            outputs: dict[str, Tensor] = strategy.module(batch, **options)
        return outputs

    def compare(passes: list[dict[str, Tensor]]) -> dict[str, list[Gradients]]:
        pulls = {}
        for name in compared:
            made = zip(micro_batches, passes, strict=True)
            parts = [_embeddings(name, batch, outputs) for batch, outputs in made]
            loss = cast(GlobalLoss, learner.loss_of(name))
            sums[name], pulls[name] = differentiate(loss, parts, world, rows)
        return pulls

    pulls: dict[str, list[Gradients]] = {}
    indices = range(len(micro_batches))
    if compared and len(indices) > 1:
        with torch.no_grad():
            passes = [forward(index, embeddings_only=True, **only) for index in indices]
        pulls = compare(passes)
    for index in indices:
        with nullcontext() if index == indices[-1] else strategy.no_sync():
            outputs = forward(index, **only)
            if compared and not pulls:  # a single micro-batch: these are all embeddings there are
                pulls = compare([outputs])
            total = torch.zeros((), device=world.device)
            for name, factor in factors.items():
                if name in pulls:
                    made = (outputs[f"{name}.{part}"] for part in PARTS)
                    term = pulls[name][index].pull(*made)
                else:
                    term = outputs[name]
                    sums[name] += term.detach()
                total = total + factor * term
            strategy.backward(total)
        del outputs, total, term  # and with them the graph
        give_back(index, world.device)
    summed = world.sum_over_ranks(torch.stack(list(sums.values())))
    means = summed / torch.tensor([max(n, 1) for n in counts.values()], device=world.device)
    return dict(zip(counts, means.unbind(), strict=True))


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that the device has no fast arithmetic for.

    Args:
        precision: Of the forward pass.
        device: Where it runs.

    Raises:
        ValueError: fp16 on a CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision: 'fp16' needs a GPU, and there is none; use precision=bf16")


def check_finite(losses: Mapping[str, Tensor], step: int) -> None:
    """Refuse to update on a loss that is no number, the same way on every rank.

    Args:
        losses: Of ``train_step``.
        step: The step, for the message.

    Raises:
        FloatingPointError: A loss is infinite or not a number.
    """
    finite = torch.isfinite(torch.stack(list(losses.values()))).tolist()  # one wait for the device
    broken = [
        f"{name} is {float(loss)}"
        for (name, loss), ok in zip(losses.items(), finite, strict=True)
        if not ok
    ]
    if broken:
        raise FloatingPointError(
            f"step {step}: {', '.join(broken)}; the weights are those before this step: lower "
            "optim.lr or optim.clip_norm, or set precision=fp32"
        )


def _count(
    learner: Learner, micro_batches: Sequence[Batch], world: World
) -> tuple[dict[str, int], list[int]]:
    """Counted rows of each objective over all ranks, and the rows of every rank."""
    counts: dict[str, Tensor] = {}
    for batch in micro_batches:
        for name, count in learner.counts(batch).items():
            counts[name] = counts.get(name, torch.zeros((), dtype=torch.long)) + count.cpu()
    rows = torch.zeros(world.size, dtype=torch.long)
    rows[world.rank] = sum(len(batch) for batch in micro_batches)
    own = torch.cat([torch.stack([*counts.values()]).long(), rows]) if counts else rows
    totals = world.sum_over_ranks(own).tolist()
    return dict(zip(counts, totals, strict=False)), totals[len(counts) :]


def _embeddings(name: str, batch: Batch, outputs: Mapping[str, Tensor]) -> Embeddings:
    image, text, log_scale = (outputs[f"{name}.{part}"] for part in PARTS)
    positives = batch.positives
    if positives is None:
        positives = torch.ones(len(image), dtype=torch.bool)
    return Embeddings(image, text, log_scale, positives.to(image.device))


@contextmanager
def _dropout(seed: Sequence[int], device: torch.device) -> Iterator[None]:
    """Seed what dropout draws from, so that both passes and a resumed run drop the same."""
    # One by one: torch.manual_seed costs far more, as it reaches for every device.
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    value = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0])
    for generator in generators:
        generator.manual_seed(value)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
