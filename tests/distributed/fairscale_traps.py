"""What each rank does to see that FairScale's traps stay shut; ``test_fairscale.py`` judges it.

Each trap is there twice: as the strategies are, and with the cure taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import cases
import shared_batches
import torch
from fairscale_cases import (
    COURSES,
    MIXED,
    NEXT_TO_NONE,
    Tensors,
    courses,
    deep_learner,
    steps,
    strategy_of,
)
from strategy_cases import on_this_machine
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flava_plugin.model import attention
from flava_plugin.model.execution import compile_layers, compiled_graphs
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World


@contextmanager
def with_buckets() -> Iterator[None]:
    from flava_plugin.train.sharding import sharded_gradients

    whole = sharded_gradients.ShardedDataParallel

    def build(*args: Any, **options: Any) -> nn.Module:
        made: nn.Module = whole(*args, **{**options, "reduce_buffer_size": 1 << 20})
        return made

    with mock.patch.object(sharded_gradients, "ShardedDataParallel", build):
        yield


@contextmanager
def with_reentrant_checkpointing() -> Iterator[None]:
    def reentrant(function: Any, *args: Any, use_reentrant: bool) -> Any:
        return checkpoint(function, *args, use_reentrant=True)

    with mock.patch.object(attention, "checkpoint", reentrant):
        yield


@contextmanager
def with_zeros_as_gradients() -> Iterator[None]:
    from flava_plugin.train.sharding.fairscale_fsdp import FairScaleFSDP

    settle = FairScaleFSDP._settle

    def settle_all(strategy: FairScaleFSDP) -> None:
        for unit in strategy._units:
            if unit.flat is not None:
                unit.reached |= set(range(len(unit.flat._param_numels)))
        settle(strategy)

    with mock.patch.object(FairScaleFSDP, "_settle", settle_all):
        yield


@contextmanager
def with_fairscales_accumulation() -> Iterator[None]:
    from flava_plugin.train.sharding.flat_unit import FlatUnit

    begin = FlatUnit.begin_backward

    def begin_as_fairscale(unit: FlatUnit) -> None:
        unit._prep_grads_for_backward()
        kept = [flat.grad for flat in unit.params]
        for flat in unit.params:
            flat.grad = None
        begin(unit)
        for flat, gradient in zip(unit.params, kept, strict=True):
            flat.grad = gradient

    with mock.patch.object(FlatUnit, "begin_backward", begin_as_fairscale):
        yield


CURES: dict[str, tuple[str, Callable[[], Any], str]] = {
    "buckets": ("fairscale_sdp", with_buckets, "deep, joined passes"),
    "reentrant": ("fairscale_sdp", with_reentrant_checkpointing, "deep, recomputed"),
    "zeros": ("fairscale_fsdp", with_zeros_as_gradients, "idle"),
    "one element": ("fairscale_fsdp", with_fairscales_accumulation, "deep"),
}


def without_cures(world: World) -> Tensors:
    """The same courses, each with a cure taken away."""
    found: Tensors = {}
    for title, (name, without, course) in CURES.items():
        with on_this_machine(name), without():
            found |= {f"{title}/{n}": t for n, t in COURSES[course](world, name).items()}
    return found


def norms(world: World) -> Tensors:
    """The norm after a step of images and one of texts, OSS's and ours."""
    learner = deep_learner(0, recompute=False, dropout=0.0)
    strategy = strategy_of("fairscale_sdp", learner, world)
    found: Tensors = {}
    for number, kind in enumerate(("image", "text")):
        whole = shared_batches.batch(kind, cases.ROWS)
        part = shared_batches.share(whole, world.rank, world.size, 1)
        train_step(strategy, learner, part, shared_batches.WEIGHTS, world, (0, number))
        found[f"ours/{kind}"] = strategy.clip_grad_norm(None)
        found[f"oss/{kind}"] = strategy.optimizer.clip_grad_norm(1e9)  # type: ignore[attr-defined]
    return found


def owners(world: World) -> Tensors:
    """Where gradients and state are after a step, and the weights of every rank."""
    found: Tensors = {}
    for name in ("ddp_oss", "fairscale_sdp"):
        learner = deep_learner(world.rank, recompute=False, dropout=0.0)
        strategy = strategy_of(name, learner, world)
        whole = shared_batches.batch("pair", cases.ROWS)
        parts = shared_batches.share(whole, world.rank, world.size, 2)
        train_step(strategy, learner, parts, shared_batches.WEIGHTS, world, (0, 0))
        strategy.clip_grad_norm(1.0)
        strategy.step()
        state = strategy.optimizer.optim.state  # type: ignore[attr-defined]
        for parameter, own in learner.named_parameters():
            found[f"{name}/weight/{parameter}"] = own
            found[f"{name}/gradient/{parameter}"] = torch.tensor(own.grad is not None)
            found[f"{name}/state/{parameter}"] = torch.tensor(own in state)
    return found


def compiled(world: World) -> Tensors:
    """Compiled layers find their parameters under new tensors in every step."""
    learner = deep_learner(world.rank, recompute=False, dropout=0.0)
    compile_layers(learner.backbone, backend="eager")
    flags = cases.POSITIVES["uneven"]
    wholes = [shared_batches.batch(kind, cases.ROWS, flags) for kind in (*MIXED, *MIXED)]
    with on_this_machine("fairscale_fsdp"):
        strategy = strategy_of("fairscale_fsdp", learner, world)
        found = steps(strategy, learner, wholes[:4], 1, shared_batches.WEIGHTS)
        graphs = compiled_graphs()
        steps(strategy, learner, wholes[4:], 1, shared_batches.WEIGHTS)
    return {**found, "more graphs": torch.tensor(compiled_graphs() - graphs)}


def memory(world: World) -> Tensors:
    """Elements of whole parameters that are there at each moment, and how often each unit sums."""
    from flava_plugin.train.sharding.flat_unit import FlatUnit, units_in

    learner = deep_learner(0, recompute=True, dropout=NEXT_TO_NONE)
    with on_this_machine("fairscale_fsdp"):
        strategy = strategy_of("fairscale_fsdp", learner, world)
        units = units_in(strategy.module)
        layers = [unit for unit in units if unit.reshard_after_forward]

        def there(some: list[FlatUnit]) -> Tensor:
            sizes = [u.flat._full_param_padded.untyped_storage().size() for u in some]
            return torch.tensor(sum(sizes) // 4)

        sums = dict.fromkeys(units, 0)
        stock = FlatUnit._post_backward_hook

        def counted(unit: FlatUnit, *args: Any) -> None:
            sums[unit] += 1
            stock(unit, *args)

        whole = shared_batches.batch("pair", cases.ROWS)
        part = shared_batches.share(whole, world.rank, world.size, 1)[0]
        found = {"before": there(units)}
        most = []
        for layer in layers:
            layer.register_forward_pre_hook(lambda *_: most.append(there(layers)))
        with mock.patch.object(FlatUnit, "_post_backward_hook", counted):
            for number in range(3):
                strategy.zero_grad()
                outputs = strategy.module(part)
                found["layers after forward"] = there(layers)
                found["rest after forward"] = there(units)
                strategy.backward(outputs["itm"] + outputs["mmm_text"])
                found["after backward"] = there(units)
                found[f"sums/{number}"] = torch.tensor([sums[unit] for unit in units])
                strategy.step()
        found["most layers at once"] = torch.stack(most).max()
        found["largest layer"] = torch.tensor(
            max(u.flat._full_param_padded.numel() for u in layers)
        )
        found["own"] = torch.tensor([v.numel() for _, v in strategy.parameters()]).sum()
    return found


def everything(world: World) -> Tensors:
    parts = {
        "courses": courses,
        "without": without_cures,
        "norms": norms,
        "owners": owners,
        "memory": memory,
    }
    if world.size == 2:  # importing torch's compiler takes longer than all of the above
        parts["compiled"] = compiled
    return {f"{k}/{n}": t for k, part in parts.items() for n, t in part(world).items()}
