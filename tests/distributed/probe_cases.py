"""What each rank does to measure gradients; ``test_gradient_probe.py`` says what must hold."""

from __future__ import annotations

import cases
import probe_traps
import shared_batches
import strategy_cases
import torch
from strategy_cases import STRATEGIES, Tensors, missing, on_this_machine, state
from torch import Tensor

from flava_plugin.model.learner import Learner
from flava_plugin.sections import ShardingSection
from flava_plugin.train.gradient_groups import groups_of
from flava_plugin.train.gradient_probe import Gradients, probe_gradients
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.world import World
from flava_plugin.types import Batch, Modality

STEPS = 3
DROPOUT = 0.3


def wholes() -> dict[Modality, Batch]:
    """The fixed batches; on two ranks, the rows that count for ITM's objectives are uneven."""
    flags = cases.POSITIVES["uneven"]
    kinds: tuple[Modality, ...] = ("pair", "image", "text")
    return {kind: shared_batches.batch(kind, cases.ROWS, flags) for kind in kinds}


def saved() -> Tensors:
    """State of one process after a step of each kind: AdamW has second moments by then."""
    made = strategy_cases.prepare(cases.ALONE, "none")
    strategy_cases.advance(made, range(STEPS))
    return state(made[1])


def probe(
    world: World,
    learner: Learner,
    strategy: Strategy,
    groups: dict[str, str],
    parts: int,
    loss_scale: float = 1.0,
) -> Gradients:
    batches = {
        kind: shared_batches.share(whole, world.rank, world.size, parts)
        for kind, whole in wholes().items()
    }
    return probe_gradients(strategy, learner, batches, groups, seed=(0, 99), loss_scale=loss_scale)


def tensors_of(found: Gradients) -> Tensors:
    losses = {f"loss/{name}": torch.tensor(loss) for name, loss in found.losses.items()}
    gradients = {f"gradients/{name}": table for name, table in found.gradients.items()}
    return losses | gradients | {f"updates/{name}": table for name, table in found.updates.items()}


def measured(world: World, name: str) -> Tensors:
    """Inner products at the saved state, with one micro-batch, with two, and with a loss scale."""
    # With dropout, of which the reference has none: a probe does not drop.
    learner = shared_batches.learner(seed=world.rank, dropout=DROPOUT)
    groups = groups_of(learner)
    section = ShardingSection(strategy=name)  # type: ignore[arg-type]
    strategy = make_strategy(section, learner, cases.OPTIM, world)
    strategy_cases.resume(strategy, saved())
    found: Tensors = {}
    # backwards, so that gradients of the first probe would be seen in the second, were they left
    for key, parts, scale in (("two", 2, 1.0), ("one", 1, 1.0), ("again", 1, 1024.0)):
        tables = tensors_of(probe(world, learner, strategy, groups, parts, scale))
        found |= {f"{key}/{n}": table for n, table in tables.items()}
    assert all(module.training for module in learner.modules())
    left = [n for n, p in strategy.parameters() if p.grad is not None]
    return found | {"gradients left": torch.tensor(len(left))}


def trained(world: World, name: str, *, probed: bool) -> Tensors:
    """A short run with dropout, with or without a probe between its steps."""
    learner = shared_batches.learner(dropout=DROPOUT)
    groups = groups_of(learner)
    section = ShardingSection(strategy=name)  # type: ignore[arg-type]
    strategy = make_strategy(section, learner, cases.OPTIM, world)
    found: Tensors = {}
    torch.manual_seed(5)
    for number in range(STEPS + 1):
        found |= strategy_cases.advance((learner, strategy), [number])
        if probed:
            probe(world, learner, strategy, groups, parts=1 + number % 2)
    found["random state"] = torch.get_rng_state()
    return found | state(strategy)


def everything(world: World) -> Tensors:
    found: Tensors = {}
    for name in STRATEGIES:
        if missing(name):
            continue
        with on_this_machine(name):
            tables = measured(world, name)
            runs = {key: trained(world, name, probed=key == "with") for key in ("with", "without")}
        found |= {f"{name}/measured/{n}": table for n, table in tables.items()}
        for key, tensors in runs.items():
            found |= {f"{name}/{key}/{n}": tensor for n, tensor in tensors.items()}
    traps = {"ddp": probe_traps.second_backward_under_ddp(world)}
    if not missing("fsdp2"):
        traps["fsdp2"] = probe_traps.autograd_under_fsdp2(world)
    return found | {f"trap/{k}/{n}": t for k, trap in traps.items() for n, t in trap.items()}


def reference(tensors: Tensors) -> dict[str, Tensor]:
    """The same at a saved state by plain autograd on one replica that has all rows."""
    learner = shared_batches.learner(seed=1)
    groups = groups_of(learner)
    learner.load_state_dict(strategy_cases.part(tensors, "model/"))
    parameters = dict(learner.named_parameters())
    batches = wholes()
    losses: dict[str, Tensor] = {}
    for batch in batches.values():
        losses |= mean_losses(learner, batch)
    made = {}
    for name, loss in losses.items():
        values = torch.autograd.grad(
            loss, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        made[name] = dict(zip(parameters, values, strict=True))
    found = {f"loss/{name}": loss.detach() for name, loss in losses.items()}
    for group in dict.fromkeys(groups.values()):
        for kind in ("gradients", "updates"):
            rows = []
            for gradients in made.values():
                row = []
                for name, parameter in parameters.items():
                    if groups[name] != group:
                        continue
                    gradient = gradients[name]
                    value = torch.zeros_like(parameter) if gradient is None else gradient
                    if kind == "updates":
                        value = value * adam_scale(tensors, name, parameter)
                    row.append(value.double().flatten())
                rows.append(torch.cat(row))
            stacked = torch.stack(rows)
            found[f"{kind}/{group}"] = stacked @ stacked.T
    return found


def adam_scale(tensors: Tensors, name: str, parameter: Tensor) -> Tensor:
    if f"optim/{name}.exp_avg_sq" not in tensors:
        return torch.zeros_like(parameter)
    second, step = (tensors[f"optim/{name}.{kind}"] for kind in ("exp_avg_sq", "step"))
    corrected = second / (1 - cases.OPTIM.betas[1] ** step)
    return cases.OPTIM.lr / (corrected.sqrt() + cases.OPTIM.eps)


def mean_losses(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    outputs, counts = learner(batch), learner.counts(batch)
    losses: dict[str, Tensor] = {}
    for name, count in counts.items():
        if name in outputs:
            losses[name] = outputs[name] / count
            continue
        image, text = outputs[f"{name}.image"], outputs[f"{name}.text"]
        scale, positives = outputs[f"{name}.log_scale"], batch.positives
        rows = learner.loss_of(name).rows(image, text, image, text, 0, positives, log_scale=scale)  # type: ignore[attr-defined]
        losses[name] = rows.sum() / count
    return losses
