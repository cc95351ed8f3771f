"""What each rank does under every sharding strategy; ``test_strategies.py`` says what must hold.

All of it, for every strategy, is done in one start of the ranks, which takes longer than the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import cases
import shared_batches
import torch
import torch.distributed as dist
from torch import Tensor

from flava_plugin.model.learner import Learner
from flava_plugin.sections import ShardingSection
from flava_plugin.train.optim import clamp_logit_scale
from flava_plugin.train.pieces import by_parameter, flat_names
from flava_plugin.train.sharding import Strategy, make_strategy, replicated
from flava_plugin.train.sharding.whole import (
    full_state,
    load_full_state,
    load_optimizer_state,
    optimizer_state,
)
from flava_plugin.train.step import Precision, train_step
from flava_plugin.train.world import World
from flava_plugin.types import Modality

STRATEGIES = ("ddp", "ddp_oss", "fairscale_sdp", "fairscale_fsdp", "fsdp2")

STEPS = 20
SAVED = 10
RESUMED = 3
RECOMPUTED = {1: 10, 2: 10, 4: 2}
"""Steps with recomputed activations by number of ranks; four take long on two cores."""
LARGEST_SCALE = 1.4
"""The logit scale starts at 1.5, and a step changes it by less than 0.05."""

MIXED: tuple[Modality, ...] = ("pair", "image", "text", "pair", "text", "image", "pair")
FLAGS = ("uneven", "none in the last micro-batch", "none", "all", "none in the first micro-batch")

Tensors = dict[str, Tensor]


def on_this_machine(name: str) -> AbstractContextManager[None]:
    """Let a strategy that is made for GPUs run on a CPU."""
    if name != "fairscale_fsdp":
        return nullcontext()
    from fairscale_on_cpu import fairscale_on_cpu

    return fairscale_on_cpu()


def prepare(world: World, name: str, *, recompute: bool = False) -> tuple[Learner, Strategy]:
    # Another seed on other ranks: they have to start from rank 0's weights all the same.
    learner = shared_batches.learner(seed=world.rank, recompute=recompute)
    section = ShardingSection(strategy=name)  # type: ignore[arg-type]
    return learner, make_strategy(section, learner, cases.OPTIM, world)


def advance(
    made: tuple[Learner, Strategy], numbers: Iterable[int], precision: Precision = "fp32"
) -> Tensors:
    """Make steps, on several ranks every other one with two micro-batches; losses and norms."""
    learner, strategy = made
    world, found = strategy.world, {}
    for number in numbers:
        flags = cases.POSITIVES[FLAGS[number % len(FLAGS)]]
        whole = shared_batches.batch(MIXED[number % len(MIXED)], cases.ROWS, flags)
        accumulation = 1 + number % 2 if world.size > 1 else 1
        parts = shared_batches.share(whole, world.rank, world.size, accumulation)
        weights, seed = shared_batches.WEIGHTS, (0, number)
        losses = train_step(strategy, learner, parts, weights, world, seed, precision=precision)
        found |= {f"{number}/{name}": loss for name, loss in losses.items()}
        found[f"{number}/norm"] = strategy.clip_grad_norm(1.0)
        strategy.step()
        clamp_logit_scale(strategy.parameters(), LARGEST_SCALE)
    return found


def state(strategy: Strategy) -> Tensors:
    """Everything a checkpoint would hold, on rank 0."""
    model = {f"model/{name}": tensor for name, tensor in full_state(strategy).items()}
    optim = flat_names(optimizer_state(strategy))
    return model | {f"optim/{name}": tensor for name, tensor in optim.items()}


def part(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def resume(strategy: Strategy, saved: Mapping[str, Tensor]) -> None:
    load_full_state(strategy, part(saved, "model/"))
    load_optimizer_state(strategy, by_parameter(part(saved, "optim/")))


def run(world: World, name: str) -> Tensors:
    """A whole run, with its state at the start, after each of three steps and further on."""
    made = prepare(world, name)
    found: Tensors = {}
    stops = (0, 1, 2, 3, SAVED, SAVED + RESUMED, STEPS)
    for first, last in zip((0, *stops), stops, strict=False):
        found |= {f"loss/{n}": t for n, t in advance(made, range(first, last)).items()}
        found |= {f"state {last}/{n}": t for n, t in state(made[1]).items()}
    return found


def resumed(world: World, name: str, saved: Mapping[str, Tensor]) -> Tensors:
    """The steps that follow a saved state, and the state they lead to."""
    made = prepare(world, name)
    resume(made[1], saved)
    losses = advance(made, range(SAVED, SAVED + RESUMED))
    ended = state(made[1])
    return {f"loss/{n}": t for n, t in losses.items()} | {f"state/{n}": t for n, t in ended.items()}


def saved_alone() -> Tensors:
    """The state of one process where the others' runs are saved."""
    made = prepare(cases.ALONE, "none")
    advance(made, range(SAVED))
    return state(made[1])


def missing(name: str) -> str | None:
    """What keeps a strategy from running here."""
    if name == "fsdp2" and replicated.TORCH < (2, 6):
        return f"fsdp2 needs torch 2.6 or newer, here is {torch.__version__}"
    return None


def on_every_rank(tensors: Tensors, world: World) -> Tensors:
    """What rank 0 has."""
    shared = [tensors]
    if world.size > 1:
        dist.broadcast_object_list(shared)
    return shared[0]


def everything(world: World, name: str, others: Tensors) -> Tensors:
    """One rank's part of all cases of a strategy; the others' are states of one process."""
    with on_this_machine(name):
        found = {f"run/{n}": t for n, t in run(world, name).items()}
        saved = on_every_rank(part(found, f"run/state {SAVED}/"), world)
        found |= {f"from itself/{n}": t for n, t in resumed(world, name, saved).items()}
        found |= {f"from none/{n}": t for n, t in resumed(world, name, others).items()}
        rough = advance(prepare(world, name), range(3), "bf16")
        found |= {f"bf16/{n}": t for n, t in rough.items()}
        again = advance(prepare(world, name, recompute=True), range(RECOMPUTED[world.size]))
        found |= {f"recomputed/{n}": t for n, t in again.items()}
    return found


def every_strategy(world: World) -> Tensors:
    """One rank's part of all cases of all strategies, one after another."""
    saved = on_every_rank({} if world.rank else saved_alone(), world)
    found: Tensors = {}
    for name in STRATEGIES:
        if not missing(name):
            found |= {f"{name}/{n}": t for n, t in everything(world, name, saved).items()}
    return found
