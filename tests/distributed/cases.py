"""What each rank does in a test; with ``World(0, 1, ...)`` the same makes the reference."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import meeting
import shared_batches
import torch
from torch import Tensor, nn

from flava_plugin.model.learner import Learner
from flava_plugin.sections import OptimSection, ShardingSection
from flava_plugin.train.sharding import Strategy, make_strategy, replicated
from flava_plugin.train.sharding.whole import full_state, optimizer_state
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch, Modality

ROWS = 16
ALONE = World(0, 1, 0, torch.device("cpu"))

POSITIVES = MappingProxyType(
    {
        "all": [True] * ROWS,
        # Of 4 ranks the last has none, the others 4, 3 and 2; of 2 ranks 6 and 3.
        "uneven": [row % 4 != 3 and row not in (1, 2, 6) for row in range(ROWS)],
        "none in the first micro-batch": [row >= 4 for row in range(ROWS)],
        "none in the last micro-batch": [row < 12 for row in range(ROWS)],
        "none": [False] * ROWS,
    }
)

# With a large eps AdamW is a smooth function of the gradient; with a small one it turns rounding
# noise around 0 into whole steps, and equal runs part.
OPTIM = OptimSection(lr=0.05, eps=0.05, weight_decay=0.1)


def prepare(world: World, **options: Any) -> tuple[Learner, Strategy]:
    # Another seed on other ranks: they have to start from rank 0's weights all the same.
    learner = shared_batches.learner(seed=world.rank, **options)
    return learner, make_strategy(ShardingSection(strategy="ddp"), learner, OPTIM, world)


def step(
    world: World, learner: Learner, strategy: Strategy, whole: Batch, accumulation: int
) -> dict[str, Tensor]:
    micro_batches = shared_batches.share(whole, world.rank, world.size, accumulation)
    return train_step(strategy, learner, micro_batches, shared_batches.WEIGHTS, world, (0, 0))


def seen(losses: dict[str, Tensor], learner: nn.Module) -> dict[str, Tensor]:
    """What a step made: losses and gradients."""
    parameters = learner.named_parameters()
    found = {name: p.grad.clone() for name, p in parameters if p.grad is not None}
    return found | {f"loss {name}": loss for name, loss in losses.items()}


def recomputed(world: World) -> dict[str, Tensor]:
    """The same as part of ``gradients``, with layers and logits recomputed in the backward."""
    learner, strategy = prepare(world, recompute=True)
    whole = shared_batches.batch("pair", ROWS, POSITIVES["uneven"])
    found: dict[str, Tensor] = {}
    for accumulation in (1, 4):
        losses = step(world, learner, strategy, whole, accumulation)
        found |= {f"{accumulation}/{n}": tensor for n, tensor in seen(losses, learner).items()}
    return found


def replica(learner: nn.Module) -> dict[str, Tensor]:
    """The weights as this rank computes with them; ``full_state`` is on rank 0 alone."""
    return {f"replica/{name}": tensor.clone() for name, tensor in learner.state_dict().items()}


def gradients(world: World) -> dict[str, Tensor]:
    """Losses and gradients of one step of every kind, with several accumulations."""
    learner, strategy = prepare(world)
    wholes = {
        f"pair, {p}": shared_batches.batch("pair", ROWS, flags) for p, flags in POSITIVES.items()
    }
    wholes["image"] = shared_batches.batch("image", ROWS)
    wholes["text"] = shared_batches.batch("text", ROWS)
    found: dict[str, Tensor] = {}
    for kind, whole in wholes.items():
        for accumulation in (1, 2, 4) if kind == "pair, uneven" else (1, 4):
            key = f"{kind}/{accumulation}"
            losses = step(world, learner, strategy, whole, accumulation)
            found |= {f"{key}/{n}": tensor for n, tensor in seen(losses, learner).items()}
            found[f"{key}/norm"] = strategy.clip_grad_norm(None)
    return found


def descent(world: World) -> dict[str, Tensor]:
    """Weights after three steps of plain gradient descent, with every accumulation."""
    found: dict[str, Tensor] = {}
    for accumulation in (1, 2, 4):
        learner, strategy = prepare(world)
        strategy.optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
        for modality in ("pair", "image", "text"):
            positives = POSITIVES["uneven"] if modality == "pair" else None
            whole = shared_batches.batch(modality, ROWS, positives)
            step(world, learner, strategy, whole, accumulation)
            strategy.step()
        weights = full_state(strategy) | replica(learner)
        found |= {f"{accumulation}/{n}": t for n, t in weights.items()}
    return found


def adamw(world: World) -> dict[str, Tensor]:
    """Weights and optimiser state after a step of each kind."""
    learner, strategy = prepare(world)
    found: dict[str, Tensor] = {}
    modalities: tuple[Modality, ...] = ("pair", "image", "text", "pair")
    for number, modality in enumerate(modalities):
        whole = shared_batches.batch(modality, ROWS, POSITIVES["uneven"])
        step(world, learner, strategy, whole, 2)
        strategy.clip_grad_norm(1.0)
        strategy.step()
        weights = full_state(strategy) | replica(learner)
        found |= {f"{number}/{n}": t for n, t in weights.items()}
        for name, kinds in optimizer_state(strategy).items():
            found |= {f"{number}/optim/{name}/{kind}": t for kind, t in kinds.items()}
    return found


class Idle(nn.Module):
    """A foreign learner that does not touch a head where it has nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.always, self.sometimes = nn.Linear(192, 1), nn.Linear(192, 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None and batch.positives is not None
        flat = batch.image.flatten(1)
        counted = flat[batch.positives]
        some = self.sometimes(counted).square().sum() if len(counted) else torch.zeros(())
        return {"always": self.always(flat).square().sum(), "sometimes": some}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.positives is not None
        return {"always": torch.tensor(len(batch)), "sometimes": batch.positives.sum()}

    def is_global(self, objective: str) -> bool:
        return False


def idle_heads(world: World) -> dict[str, Tensor]:
    """A head unused in one micro-batch, on one rank, or in all (pytorch issue 69031)."""
    learner = Idle()
    strategy = make_strategy(ShardingSection(), learner, OPTIM, world)
    weights = {"always": 1.0, "sometimes": 1.0}
    found: dict[str, Tensor] = {}
    for kind, flags in POSITIVES.items():
        whole = shared_batches.batch("pair", ROWS, flags)
        for accumulation in (1, 2, 4):
            parts = shared_batches.share(whole, world.rank, world.size, accumulation)
            losses = train_step(strategy, learner, parts, weights, world, (0, 0))  # type: ignore[arg-type]
            key = f"{kind}/{accumulation}"
            found |= {f"{key}/{n}": tensor for n, tensor in seen(losses, learner).items()}
    return found


def parity(world: World) -> dict[str, Tensor]:
    """What has to be the same on any number of ranks."""
    parts = {
        "gradients": gradients,
        "descent": descent,
        "adamw": adamw,
        "idle": idle_heads,
        "recomputed": recomputed,
    }
    return {f"{k}/{n}": t for k, part in parts.items() for n, t in part(world).items()}


def hand_over(world: World) -> dict[str, Tensor]:
    """State after two steps, and the weights after a third one."""
    learner, strategy = prepare(world)
    whole = shared_batches.batch("pair", ROWS, POSITIVES["uneven"])
    for _ in range(2):
        step(world, learner, strategy, whole, 1)
        strategy.step()
    found = {f"saved/{name}": tensor for name, tensor in full_state(strategy).items()}
    for name, kinds in optimizer_state(strategy).items():
        found |= {f"saved optim/{name}/{kind}": tensor for kind, tensor in kinds.items()}
    step(world, learner, strategy, whole, 1)
    strategy.step()
    return found | {f"next/{name}": tensor for name, tensor in full_state(strategy).items()}


def averaged_by_hand(world: World) -> dict[str, Tensor]:
    """What torch before 2.4 gets instead of DDP, under any torch."""
    newer, replicated.TORCH = replicated.TORCH, (2, 3)
    try:
        return {**gradients(world), **{f"idle/{n}": t for n, t in idle_heads(world).items()}}
    finally:
        replicated.TORCH = newer


def everything(world: World) -> dict[str, Tensor]:
    """All of the above in one start of the ranks, which takes longer than they do."""
    found = {**parity(world), **hand_over(world)}
    found |= {f"by hand/{n}": t for n, t in averaged_by_hand(world).items()}
    return found | {f"collectives/{n}": t for n, t in meeting.collectives(world).items()}
