"""What a rank updates: every strategy says which part of each parameter that is (``Shard``).

Measuring the gradient, saving and loading (``saved_shards.py``) are then the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flava_plugin.train.pieces import Shape
from flava_plugin.train.world import World


@dataclass(frozen=True)
class Shard:
    """The part of a parameter that this rank updates.

    Attributes:
        name: The learner's own name of the parameter.
        shape: Of the whole parameter.
        start: First element of the part, counted in the flattened parameter.
        value: The part; it shares memory with what the model computes with.
        shared: Whether every rank holds and updates the same part.
    """

    name: str
    shape: Shape
    start: int
    value: nn.Parameter
    shared: bool


@dataclass(frozen=True)
class Held:
    """All that this rank holds of a learner.

    Attributes:
        shards: Parts of parameters; one that has several names stands under each of them.
        buffers: What of the learner's state is no parameter, the same on every rank.
        shapes: Shape of everything in the learner's state, by name.
    """

    shards: Sequence[Shard]
    buffers: Mapping[str, Tensor]
    shapes: Mapping[str, Shape]

    @classmethod
    def of_replica(cls, module: nn.Module) -> Held:
        """Describe a rank that has everything.

        Args:
            module: The learner.

        Returns:
            A shard for each parameter, shared by all ranks.
        """
        everything = state_of(module)
        shards = [Shard(n, tuple(p.shape), 0, p, True) for n, p in everything.parameters.items()]
        return cls(shards, everything.buffers, everything.shapes)

    @property
    def trained(self) -> list[Shard]:
        """Shards that the optimiser updates, each once."""
        distinct = {id(shard.value): shard for shard in reversed(self.shards)}
        return [s for s in self.shards if s.value.requires_grad and distinct[id(s.value)] is s]

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The optimiser's parameters by name."""
        return ((shard.name, shard.value) for shard in self.trained)

    def listed(self) -> list[tuple[str, int, nn.Parameter]]:
        """The same with the number of dimensions of the whole, as ``optim.adamw`` takes it."""
        return [(shard.name, len(shard.shape), shard.value) for shard in self.trained]

    @torch.no_grad()
    def unscale(self, factor: float) -> None:
        """Divide every gradient.

        Args:
            factor: What the loss was multiplied by.
        """
        if factor != 1.0:
            for _, parameter in self.named():
                if parameter.grad is not None:
                    parameter.grad /= factor


@dataclass(frozen=True)
class State:
    """A learner's state before it is cut.

    Attributes:
        parameters: By every name they have.
        buffers: Persistent buffers by name.
        shapes: Of both, by name.
    """

    parameters: Mapping[str, nn.Parameter]
    buffers: Mapping[str, Tensor]
    shapes: Mapping[str, Shape]


def state_of(module: nn.Module) -> State:
    """Read what a checkpoint of a module holds.

    Args:
        module: A learner that is not wrapped.

    Returns:
        Its parameters and persistent buffers.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    state = module.state_dict()
    buffers = {name: tensor for name, tensor in state.items() if name not in parameters}
    return State(parameters, buffers, {name: tuple(t.shape) for name, t in state.items()})


def shared_out(shards: Sequence[Shard], world: World) -> list[Shard]:
    """Deal what every rank holds to the ranks.

    Args:
        shards: The same on every rank.
        world: This process's place.

    Returns:
        Every n-th of them, n being the number of ranks.
    """
    return list(shards[world.rank :: world.size])


@torch.no_grad()
def clip_shards(shards: Sequence[Shard], largest: float | None, world: World) -> Tensor:
    """Scale gradients that lie in parts on several ranks down to a total norm.

    Args:
        shards: This rank's, with gradients that are final.
        largest: The norm allowed; None measures only.
        world: All ranks take part.

    Returns:
        The norm before clipping, 0-dim, the same on every rank.
    """
    gradients = [shard.value.grad for shard in shards if shard.value.grad is not None]
    counted = [
        shard.value.grad
        for shard in shards
        if shard.value.grad is not None and not (shard.shared and world.rank)
    ]
    squares = [gradient.float().square().sum() for gradient in counted]
    total = torch.stack(squares).sum() if squares else torch.zeros((), device=world.device)
    norm = world.sum_over_ranks(total).sqrt()
    if largest is not None:
        factor = (largest / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.dtype))
    return norm
