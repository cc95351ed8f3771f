"""What each rank does to see that FSDP2's traps stay shut; ``test_fsdp2.py`` judges it.

Each trap is there twice: as the strategy is, and with the cure taken away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import cases
import shared_batches
import torch
from fairscale_cases import COURSES, OfPositives, Tensors, deep_learner, steps, strategy_of
from fsdp2_learners import (
    WIDTH,
    ClosureHead,
    OnlyLayers,
    OpaqueEncoder,
    Sealed,
    Skipping,
    Wrapped,
    squares,
)
from torch import Tensor, nn

from flava_plugin.components.heads import Projections
from flava_plugin.components.losses import GlobalContrastive, MaskedCrossEntropy
from flava_plugin.model.backbone import Backbone
from flava_plugin.model.execution import compile_layers
from flava_plugin.model.learner import Learner
from flava_plugin.train.sharding import fsdp2, reach, units
from flava_plugin.train.sharding.whole import load_full_state
from flava_plugin.train.world import World
from flava_plugin.types import Modality

SIZE = 2
"""Ranks."""


def opaque_learner(seed: int) -> Learner:
    text, fused = (getattr(deep_backbone(seed), f"{name}_encoder") for name in ("text", "mm"))
    torch.manual_seed(seed)
    backbone = Backbone(OpaqueEncoder(), text, fused, projection=WIDTH)
    heads = {"own": ClosureHead(), "gcl": Projections(None)}  # type: ignore[arg-type]
    losses = {"own": squares, "gcl": GlobalContrastive(init_scale=1.0)}
    return Learner(backbone, heads, losses, {"own": "image", "gcl": "pair"}).train()


def deep_backbone(seed: int) -> Backbone:
    return deep_learner(seed, recompute=False, dropout=0.0).backbone


def opaque(world: World, name: str, *, accumulation: int) -> Tensors:
    learner = opaque_learner(world.rank)
    strategy = strategy_of(name, learner, world)
    flags = cases.POSITIVES["uneven"]
    wholes = [shared_batches.batch(kind, cases.ROWS, flags) for kind in ("image", "pair", "image")]
    return steps(strategy, learner, wholes, accumulation, {"own": 1.0, "gcl": 1.0})


def frozen(world: World, name: str) -> Tensors:
    """An encoder and half a layer of another that are not trained."""
    learner = deep_learner(world.rank, recompute=False, dropout=0.0)
    learner.backbone.image_encoder.requires_grad_(False)
    learner.backbone.mm_encoder.encoder.layer[0].attention.requires_grad_(False)
    learner.backbone.text_encoder.embeddings.requires_grad_(False)
    strategy = strategy_of(name, learner, world)
    flags = cases.POSITIVES["uneven"]
    wholes = [shared_batches.batch(kind, cases.ROWS, flags) for kind in ("pair", "text", "pair")]
    return steps(strategy, learner, wholes, 2, shared_batches.WEIGHTS)


def stale(world: World, name: str) -> Tensors:
    """Weights that change after a pass without gradients, which leaves them gathered."""
    learner = deep_learner(world.rank, recompute=False, dropout=0.0)
    strategy = strategy_of(name, learner, world)
    whole = shared_batches.batch("pair", cases.ROWS)
    found: Tensors = {}
    with torch.no_grad():
        strategy.module(whole, embeddings_only=True)
        other = deep_learner(7, recompute=False, dropout=0.0)
        load_full_state(strategy, other.state_dict())
        found["loaded"] = strategy.module(whole, embeddings_only=True)["gcl.image"]
        for _, parameter in strategy.parameters():
            parameter.grad = torch.ones_like(parameter)
        strategy.step()
        found["updated"] = strategy.module(whole, embeddings_only=True)["gcl.image"]
    return found


def compiled(world: World, name: str) -> Tensors:
    learner = deep_learner(world.rank, recompute=True, dropout=0.0)
    compile_layers(learner.backbone, backend="aot_eager")
    strategy = strategy_of(name, learner, world)
    wholes = [shared_batches.batch("pair", cases.ROWS, cases.POSITIVES["uneven"])] * 2
    return steps(strategy, learner, wholes, 2, shared_batches.WEIGHTS)


EVERY_OTHER = [row % SIZE == 0 for row in range(cases.ROWS)]
"""Positives of the first rank only."""


def apart(world: World, name: str, *, accumulation: int) -> Tensors:
    """An encoder and its head that only the first rank's loss depends on."""
    whole = deep_learner(world.rank, recompute=False, dropout=0.0)
    heads = {task: whole.heads[task] for task in ("mim", "mlm")}
    losses = {"mim": OfPositives(target="patches"), "mlm": MaskedCrossEntropy(target="words")}
    kinds: dict[str, Modality] = {"mim": "pair", "mlm": "pair"}
    learner = Learner(whole.backbone, heads, losses, kinds, whole.codebook)
    strategy = strategy_of(name, learner, world)
    wholes = [shared_batches.batch("pair", cases.ROWS, EVERY_OTHER)] * 3
    return steps(strategy, learner, wholes, accumulation, {"mim": 1.0, "mlm": 1.0})


def alone_at_it(world: World, name: str, *, accumulation: int) -> Tensors:
    """A learner of which only the first rank has a loss at all."""
    whole = deep_learner(world.rank, recompute=False, dropout=0.0)
    losses = {"mim": OfPositives(target="patches")}
    heads: dict[str, nn.Module] = {"mim": whole.heads["mim"]}
    learner = Learner(whole.backbone, heads, losses, {"mim": "pair"}, whole.codebook)
    strategy = strategy_of(name, learner, world)
    wholes = [shared_batches.batch("pair", cases.ROWS, EVERY_OTHER)] * 3
    return steps(strategy, learner, wholes, accumulation, {"mim": 1.0})


def idle(world: World, name: str) -> Tensors:
    """Parameters of one unit that the loss of the first rank alone depends on."""
    learner = cases.Idle()
    strategy = strategy_of(name, learner, world)
    wholes = [shared_batches.batch("pair", cases.ROWS, EVERY_OTHER)] * 2
    return steps(strategy, learner, wholes, 2, {"always": 1.0, "sometimes": 1.0})


def only_layers(world: World, name: str) -> Tensors:
    learner = OnlyLayers()
    wholes = [shared_batches.batch("pair", cases.ROWS, EVERY_OTHER)] * 2
    return steps(strategy_of(name, learner, world), learner, wholes, 1, {"loss": 1.0})


OURS: dict[str, Callable[[World, str], Tensors]] = {
    **{t: COURSES[t] for t in ("deep", "deep, recomputed", "foreign", "foreign, apart")},
    "apart on one rank": partial(apart, accumulation=1),
    "apart on one rank, accumulated": partial(apart, accumulation=2),
    "one rank alone": partial(alone_at_it, accumulation=2),
    "idle on one rank": idle,
    "only layers, apart": only_layers,
    "opaque": partial(opaque, accumulation=1),
    "opaque, accumulated": partial(opaque, accumulation=2),
    "frozen": frozen,
    "stale": stale,
    "compiled": compiled,
}


def sealed(world: World, name: str) -> Tensors:
    learner = Sealed()
    wholes = [shared_batches.batch("image", cases.ROWS)] * 2
    return steps(strategy_of(name, learner, world), learner, wholes, 1, {"loss": 1.0})


OURS["sealed"] = sealed


def courses(world: World) -> Tensors:
    """Every course; in one process the reference."""
    name = "fsdp2" if world.size > 1 else "none"
    found: Tensors = {}
    for title, course in OURS.items():
        found |= {f"{title}/{n}": t for n, t in course(world, name).items()}
    return found


def outputs_not_shown() -> Any:
    return mock.patch.object(reach, "_hide", lambda module, args, output: None)


def everything_released() -> Any:
    """Give back the parameters of heads and encoders after their forward pass, as FSDP2 would."""
    return mock.patch.object(units.Unit, "releases", True)


def zeros_as_gradients() -> Any:
    """Update every parameter of a unit that was called."""

    def all_of_them(self: reach.Reach, scalars: Any) -> set[str]:
        return {name for unit in self._units for name in unit.trained} | set(scalars)

    return mock.patch.object(reach.Reach, "agree", all_of_them)


def scalars_apart() -> Any:
    return mock.patch.object(fsdp2.FSDP2, "_average_scalars", lambda self, scalars: None)


def nothing_let_go() -> Any:
    return mock.patch.object(fsdp2.FSDP2, "_release", lambda self: None)


def own_start() -> Any:
    """Every rank cuts its part from the weights it happens to have."""
    return mock.patch.object(fsdp2, "copy_from_first", lambda learner: None)


CURES: dict[str, tuple[Callable[[], Any], str]] = {
    "outputs are shown": (outputs_not_shown, "opaque"),
    "outputs of the learner are shown": (outputs_not_shown, "sealed"),
    "heads and encoders stay gathered": (everything_released, "opaque"),
    "idle parameters are left out": (zeros_as_gradients, "opaque"),
    "scalars are averaged": (scalars_apart, "foreign"),
    "what changes is let go": (nothing_let_go, "stale"),
    "ranks start alike": (own_start, "foreign"),
}


def without_cures(world: World) -> Tensors:
    """A course for each cure, with the cure taken away; the error instead where there is one."""
    found: Tensors = {}
    for title, (taken_away, course) in CURES.items():
        with taken_away():
            try:
                made = OURS[course](world, "fsdp2")
            except RuntimeError as error:
                made = {"error": torch.tensor(list(str(error)[:200].encode()))}
        found |= {f"{title}/{n}": t for n, t in made.items()}
    return found


def refused(world: World, learner: nn.Module) -> Tensor:
    strategy = strategy_of("fsdp2", learner, world)
    try:
        steps(strategy, learner, [shared_batches.batch("image", cases.ROWS)], 1, {"loss": 1.0})
    except RuntimeError as error:
        return torch.tensor(list(str(error).encode()))
    return torch.zeros(0)


def memory(world: World) -> Tensors:
    """What lies where during a forward pass and after a step."""
    learner = deep_learner(world.rank, recompute=False, dropout=0.0)
    strategy = strategy_of("fsdp2", learner, world)
    assert isinstance(strategy, fsdp2.FSDP2)
    before = [id(parameter) for _, parameter in strategy.parameters()]
    gathered = {
        name: parameter
        for unit in strategy._reach._units
        for name, parameter in unit.trained.items()
    }
    found: Tensors = {}

    def there(*_: Any) -> None:
        names = [name for name, p in gathered.items() if p.untyped_storage().size()]
        found["layers during"] = torch.tensor(sum(".layer." in name for name in names))
        found["heads during"] = torch.tensor(sum(name.startswith("heads.") for name in names))

    learner.register_forward_hook(there)
    wholes = [shared_batches.batch("pair", cases.ROWS, cases.POSITIVES["uneven"])] * 3
    steps(strategy, learner, wholes, 2, shared_batches.WEIGHTS)
    sizes = [p.untyped_storage().size() for p in gathered.values()]
    found["gathered after"] = torch.tensor(sum(sizes))
    same, parts = [], 0
    names = dict(learner.named_parameters())
    for name, value in strategy.parameters():
        local = names[name].to_local() if hasattr(names[name], "to_local") else names[name]
        parts += value.numel()
        same.append(value.data_ptr() == local.data_ptr() and value.shape == local.shape)
    found["same memory"] = torch.tensor(all(same))
    found["same objects"] = torch.tensor(before == [id(p) for _, p in strategy.parameters()])
    found["share"] = torch.tensor(parts)
    found["rows of none"] = torch.tensor(sum(not p.numel() for _, p in strategy.parameters()))
    part = shared_batches.share(wholes[0], world.rank, world.size, 1)[0]
    strategy.zero_grad()
    with strategy.no_sync():
        strategy.backward(sum(strategy.module(part)[n] for n in ("itm", "mmm_text")))  # type: ignore[arg-type]
    kept = [p.grad.to_local().numel() for p in names.values() if hasattr(p.grad, "to_local")]
    found["gradients while they accumulate"] = torch.tensor(sum(kept))
    return found


def everything(world: World) -> Tensors:
    found = {f"course/{n}": t for n, t in courses(world).items()}
    found |= {f"uncured/{n}": t for n, t in without_cures(world).items()}
    found |= {f"memory/{n}": t for n, t in memory(world).items()}
    found["refused/order"] = refused(world, Wrapped(Skipping(skipped=world.rank)))
    return found
