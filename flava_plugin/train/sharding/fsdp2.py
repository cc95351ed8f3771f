"""Parameters, gradients and optimiser state in parts (ZeRO-3), by torch's ``fully_shard``.

Each unit's parameters (``units.py``) are gathered when it runs and lie in parts of whole rows
otherwise. The optimiser is an ordinary AdamW over plain tensors that share memory with these parts,
so neither it nor a checkpoint knows of DTensor. 0-dim parameters, which cannot be cut, stay on
every rank. What keeps ranks together where their losses reach different units is in ``reach.py``.

While gradients accumulate they are reduced in every micro-batch all the same: it costs a reduction
for each, and a rank never holds more than its part of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from flava_plugin.sections import OptimSection
from flava_plugin.train.layer_rates import layer_rates
from flava_plugin.train.optim import adamw
from flava_plugin.train.pieces import Piece, Source
from flava_plugin.train.sharding.averaging import copy_from_first
from flava_plugin.train.sharding.reach import Reach
from flava_plugin.train.sharding.saved_shards import (
    load_model,
    load_optimizer,
    model_pieces,
    optimizer_pieces,
)
from flava_plugin.train.sharding.shards import Held, Shard, clip_shards, state_of
from flava_plugin.train.sharding.units import Unit, find_units
from flava_plugin.train.world import World

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


class FSDP2:
    """A learner cut into parts, one for each rank.

    Args:
        learner: Moved to the world's device and sharded in place; every rank's parts are those of
            rank 0's.
        optim: The recipe's ``optim``.
        world: This process's place. For a single process a process group of one is made.

    Attributes:
        module: The learner, sharded.
        optimizer: AdamW over this rank's parts of the trainable parameters.
        world: This process's place.
        whole: False: outside a pass a learner's parameters are parts.

    Raises:
        ValueError: This torch or this learner cannot be sharded so.
    """

    whole = False

    def __init__(self, learner: nn.Module, optim: OptimSection, world: World) -> None:
        if TORCH < (2, 6):
            raise ValueError(
                "sharding.strategy: 'fsdp2' needs torch 2.6 or newer, here is "
                f"{torch.__version__}; upgrade torch or use sharding.strategy=ddp_oss or "
                "fairscale_sdp"
            )
        self.world = world
        rates = layer_rates(learner, optim.layer_decay)
        self.module: nn.Module = learner.to(world.device)
        _join(world)
        if world.size > 1:
            copy_from_first(learner)
        state = state_of(learner)
        # 0-dim parameters cannot be cut.
        self._units = find_units(learner, "fsdp2", lambda parameter: parameter.dim() > 0)
        self._reach = Reach(world)
        scalars = _shard(self._units, learner, world)
        for unit in self._units:
            self._reach.watch(unit, _gathered(unit))
        values: dict[nn.Parameter, nn.Parameter] = {}
        shards: list[Shard] = []
        for name, parameter in learner.named_parameters(remove_duplicate=False):
            if parameter in scalars:
                shards.append(Shard(name, (), 0, parameter, True))
                continue
            if parameter not in values:
                with torch.no_grad():
                    local = cast(Any, parameter).to_local()
                values[parameter] = nn.Parameter(local, requires_grad=parameter.requires_grad)
            shards.append(_shard_of(name, parameter, values[parameter], world))
        self._held = Held(shards, state.buffers, state.shapes)
        self._scalars = {s.name: s.value for s in self._held.trained if s.value in scalars}
        own = {id(value): parameter for parameter, value in values.items()}
        self._sharded = [(s, own[id(s.value)]) for s in self._held.trained if id(s.value) in own]
        self.optimizer: torch.optim.Optimizer = adamw(self._held.listed(), optim, rates=rates)
        self._waits = False

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """This rank's parts of the trainable parameters, by the learner's own names."""
        return self._held.named()

    def zero_grad(self) -> None:
        """Drop every gradient, so that a parameter the step does not reach is not updated."""
        self._reach.restart()
        self.optimizer.zero_grad(set_to_none=True)
        for _, parameter in self._sharded:
            parameter.grad = None

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate; gradients are reduced all the same, and final after a backward outside."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients; over ranks they are averaged.

        Args:
            loss: A scalar that derives from outputs of ``module``.
        """
        self._reach.backward(loss)
        if self._waits:
            return
        used = self._reach.agree(self._scalars)
        for shard, parameter in self._sharded:
            if shard.name not in used:
                parameter.grad = None
            gradient = cast(Any, parameter.grad)
            with torch.no_grad():
                shard.value.grad = None if gradient is None else gradient.to_local()
        self._average_scalars([p for name, p in self._scalars.items() if name in used])

    @torch.no_grad()
    def _average_scalars(self, scalars: list[nn.Parameter]) -> None:
        if not scalars or self.world.size == 1:
            return
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in scalars]
        averages = self.world.sum_over_ranks(torch.stack(own)) / self.world.size
        for scalar, average in zip(scalars, averages.unbind(), strict=True):
            scalar.grad = average.clone()

    def clip_grad_norm(self, largest: float | None, *, loss_scale: float = 1.0) -> Tensor:
        """Undo the loss's scale and bring the gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.
            loss_scale: What the loss was multiplied by.

        Returns:
            The norm before clipping, a scalar, the same on every rank.
        """
        self._held.unscale(loss_scale)
        return clip_shards(self._held.trained, largest, self.world)

    def owned(self) -> list[Shard]:
        """This rank's parts; rank 0 has what is held by all."""
        return [s for s in self._held.trained if not (s.shared and self.world.rank)]

    def step(self) -> None:
        """Update the parameters that have a gradient on some rank."""
        self._release()
        self.optimizer.step()

    def pieces(self, *, spread: bool) -> tuple[list[Piece], list[Piece]]:
        """Copy this rank's part of the weights and of the optimiser's state to the CPU.

        Args:
            spread: Whether ranks share the work of what all of them hold.

        Returns:
            Pieces of the model and of the optimiser.
        """
        optimizer = optimizer_pieces(
            self._held.trained, self.optimizer.state, self.world, spread=spread
        )
        return model_pieces(self._held, self.world, spread=spread), optimizer

    def load_model(self, source: Source) -> None:
        """Take over saved weights.

        Args:
            source: Parameters and buffers by the learner's own names.
        """
        self._release()
        load_model(self._held, source)

    def load_optimizer(self, source: Source) -> None:
        """Take over saved optimiser state.

        Args:
            source: By ``<parameter>.<kind>``.
        """
        load_optimizer(self.optimizer, self._held.trained, self._held, source)

    def _release(self) -> None:
        """Let go of gathered parameters, which a change of the parts would leave outdated."""
        for unit in self._units:
            cast(Any, unit.module).reshard()


def _join(world: World) -> None:
    """Make ready what ``fully_shard`` communicates with."""
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    if world.size > 1 and world.device.type == "cpu":
        average = torch.empty(1)
        dist.reduce_scatter_tensor(average, torch.ones(world.size), op=dist.ReduceOp.AVG)
        if average.item() != 1:
            raise ValueError(
                f"sharding.strategy: torch {torch.__version__} adds up on a CPU where 'fsdp2' "
                "asks it to average; upgrade torch or use sharding.strategy=ddp"
            )


def _shard(units: list[Unit], learner: nn.Module, world: World) -> set[nn.Parameter]:
    """Shard the units; what is 0-dim stays as it is and is returned."""
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for parameter in learner.parameters():
        parameter.data = parameter.data.contiguous()
    # Out of the module while it is sharded: torch 2.6 cannot be told to leave a parameter alone.
    scalars = [
        (module, name, parameter)
        for module in learner.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if not parameter.dim()
    ]
    for module, name, _ in scalars:
        module.register_parameter(name, None)
    for unit in units:
        Reach.show_outputs(unit.module)
        fully_shard(unit.module, mesh=mesh, reshard_after_forward=unit.releases)
    for module, name, parameter in scalars:
        module.register_parameter(name, parameter)
    return {parameter for _, _, parameter in scalars}


def _gathered(unit: Unit) -> dict[str, nn.Parameter]:
    """A unit's gathered parameters: the same objects in every pass, empty between passes."""
    module = cast(Any, unit.module)
    prefix = f"{unit.name}." if unit.name else ""
    # This also brings the parts to their final place in memory, which older torch does late.
    module.unshard()
    found = {name: module.get_parameter(name.removeprefix(prefix)) for name in unit.parameters}
    module.reshard()
    return found


def _shard_of(name: str, parameter: nn.Parameter, value: nn.Parameter, world: World) -> Shard:
    """Say which rows a part holds: as ``torch.chunk`` cuts them, later ranks may have none."""
    shape = tuple(parameter.shape)
    rows = -(-shape[0] // world.size)
    first = min(world.rank * rows, shape[0])
    assert value.shape == (min(rows, shape[0] - first), *shape[1:])
    start = first * (parameter.numel() // shape[0]) if shape[0] else 0
    return Shard(name, shape, start, value, shared=not parameter.numel())
