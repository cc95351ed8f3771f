"""``fairscale_fsdp``: parameters, gradients and optimiser state spread over ranks (ZeRO-3).

FairScale flattens the parameters of each unit (``units.py``, ``flat_unit.py``) and gives every rank
a range of them, which begins and ends anywhere. AdamW here does not update these ranges but views
of them (``flat_ranges.py``), one for each parameter that has elements on this rank; what decays,
what is idle and what a checkpoint holds go by the learner's own parameters that way.

- Each micro-batch's gradients are summed over ranks and added to the ranges. Waiting for the last
  one would keep whole gradients on every rank.
- A flat gradient has zeros where a parameter was idle. Which were not is noted during the backward
  pass and agreed on by all ranks, and the others are left without gradient: AdamW would let them
  decay and drift.
- Every rank has to call the same units in the same order, as all ranks have a batch of one kind.
  Where their losses do not depend on the same units, layers are passed through all the same, with a
  gradient of 0, and the others are summed when the pass is over.
- bf16 and fp16 come from autocast. A layer then keeps cast copies of its weights for the backward
  pass, unless activation checkpointing makes them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from flava_plugin.sections import OptimSection
from flava_plugin.train.layer_rates import layer_rates
from flava_plugin.train.optim import adamw
from flava_plugin.train.pieces import Piece, Source
from flava_plugin.train.sharding.averaging import copy_from_first
from flava_plugin.train.sharding.flat_ranges import cut, places_of, replace, without_trained
from flava_plugin.train.sharding.flat_unit import units_in
from flava_plugin.train.sharding.graph import anchored, reached
from flava_plugin.train.sharding.saved_shards import (
    load_model,
    load_optimizer,
    model_pieces,
    optimizer_pieces,
)
from flava_plugin.train.sharding.shards import Shard, clip_shards
from flava_plugin.train.sharding.units import find_units
from flava_plugin.train.world import World


class FairScaleFSDP:
    """A learner of which each rank holds a part; whole parameters come and go with their use.

    Args:
        learner: Moved to the world's device and taken apart in place; starts as rank 0's.
        optim: The recipe's ``optim``.
        world: This process's place.

    Attributes:
        module: The learner within FairScale's wrapper.
        optimizer: AdamW over this rank's part of each trainable parameter.
        world: This process's place.
        whole: False: outside ``module`` the learner has no parameters.

    Raises:
        ValueError: There is no GPU, or units of the learner share a parameter or mix types.
    """

    whole = False

    def __init__(self, learner: nn.Module, optim: OptimSection, world: World) -> None:
        require_cuda(world.device)
        self.world = world
        rates = layer_rates(learner, optim.layer_decay)
        plan = find_units(learner, "fairscale_fsdp", lambda parameter: parameter.requires_grad)
        learner.to(world.device)
        if world.size > 1:
            copy_from_first(learner)
        places, held = places_of(learner), without_trained(learner)
        self._units = [replace(unit, learner, world) for unit in plan]
        self._root = self._units[-1]
        self.module: nn.Module = self._root
        for unit in reversed(self._units):  # the root makes those inside it its own
            unit._lazy_init()
        self._ranges, self._held = cut(self._units, places, held, world)
        self.optimizer: torch.optim.Optimizer = adamw(self._held.listed(), optim, rates=rates)
        self._settled = True

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """This rank's part of each trainable parameter, by the learner's own names."""
        return self._held.named()

    def zero_grad(self) -> None:
        """Drop every gradient, so that a parameter the step does not reach is not updated."""
        self.optimizer.zero_grad(set_to_none=True)
        for unit in self._units:
            unit.reached.clear()
            unit.outputs.clear()
            if unit.flat is not None:
                unit.flat.grad = None

    def no_sync(self) -> AbstractContextManager[None]:
        """Nothing: every backward sums over ranks, so that no rank keeps whole gradients."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients, averaged over ranks.

        Args:
            loss: A scalar that derives from outputs of ``module``.

        Raises:
            RuntimeError: The ranks' losses depend on different layers, in an encoder whose output
                cannot be looked into.
        """
        anchors = self._part_ways(loss) if self.world.size > 1 else []
        for unit in self._units:
            unit.begin_backward()
        torch.autograd.backward(anchored(loss, anchors) if anchors else loss)
        self._root.finish_backward()
        self._settled = False

    def clip_grad_norm(self, largest: float | None, *, loss_scale: float = 1.0) -> Tensor:
        """Undo the loss's scale and bring the gradients down to a total norm.

        Args:
            largest: The norm allowed; None measures only.
            loss_scale: What the loss was multiplied by.

        Returns:
            The norm before clipping, a scalar.
        """
        self._settle()
        self._held.unscale(loss_scale)
        return clip_shards(self._held.trained, largest, self.world)

    def owned(self) -> list[Shard]:
        """This rank's part of each trainable parameter; rank 0 has what is held by all."""
        self._settle()
        return [s for s in self._held.trained if not (s.shared and self.world.rank)]

    def step(self) -> None:
        """Update this rank's part of the parameters that have a gradient."""
        self._settle()
        self.optimizer.step()
        self._release()

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
        load_model(self._held, source)
        self._release()

    def load_optimizer(self, source: Source) -> None:
        """Take over saved optimiser state.

        Args:
            source: By ``<parameter>.<kind>``.
        """
        load_optimizer(self.optimizer, self._held.trained, self._held, source)

    def _part_ways(self, loss: Tensor) -> list[Tensor]:
        """Have units wait that not every rank reaches, and say what leads to their layers."""
        units = [unit for unit in self._units if unit.flat is not None]
        own = reached([unit.flat for unit in units], loss)
        ranks = self.world.sum_over_ranks(own).tolist()
        apart = [unit for unit, n in zip(units, ranks, strict=True) if 0 < n < self.world.size]
        layers = {unit for unit in apart if unit.reshard_after_forward}
        for unit, count in zip(units, own.tolist(), strict=True):
            unit.waits = unit in apart and unit not in layers
            unit.listens = bool(count)
        around = [u for u in self._units if u is not self._root and layers & set(units_in(u))]
        if hiding := [type(unit.module.module).__name__ for unit in around if unit.hides]:
            raise RuntimeError(
                f"the loss of some ranks does not depend on {', '.join(hiding)}, and to bring "
                "these ranks through it all the same its output has to consist of tensors; use "
                "sharding.strategy=ddp_oss or fairscale_sdp"
            )
        passed = {unit for unit in layers if not unit.listens}
        return [t for unit in around if passed & set(units_in(unit)) for t in unit.outputs]

    def _settle(self) -> None:
        """Give the parameters that some rank reached their part of the gradient."""
        if self._settled:
            return
        own = torch.tensor([r.index in r.unit.reached for r in self._ranges], dtype=torch.int32)
        ranks = self.world.sum_over_ranks(own).tolist()
        for place, used in zip(self._ranges, ranks, strict=True):
            gradient, count = place.unit.flat.grad, place.value.numel()
            if used and count and gradient is not None:
                place.value.grad = gradient[place.first : place.first + count]
        self._settled = True

    def _release(self) -> None:
        """Drop parameters gathered earlier, which are not those they are a copy of any more."""
        for unit in self._units:
            unit.release()


def require_cuda(device: torch.device) -> None:
    """Refuse to start where FairScale cannot compute.

    Args:
        device: The world's.

    Raises:
        ValueError: It is no GPU.
    """
    if device.type != "cuda":
        raise ValueError(
            "sharding.strategy: 'fairscale_fsdp' needs a GPU, as FairScale takes CUDA streams, and "
            f"this process has device {device}; use sharding.strategy=ddp_oss, fairscale_sdp or "
            "fsdp2, which also run on a CPU"
        )
