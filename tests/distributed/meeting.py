"""What each rank does where no model is needed; see ``cases.py`` for the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from flava_plugin.train.world import World


def collectives(world: World) -> dict[str, Tensor]:
    """What ranks agree on, with unequal rows: rank r has r."""
    own = torch.full((world.rank, 2), float(world.rank), requires_grad=True)
    everything = world.gather_rows(own)
    (everything * torch.arange(len(everything)).unsqueeze(1) * (world.rank + 1)).sum().backward()
    assert own.grad is not None
    untouched = torch.tensor(1)
    total = world.sum_over_ranks(untouched)
    flags = [world.any_over_ranks(world.rank == 1), world.any_over_ranks(False)]
    world.require_same("the recipe", "steps: 3")
    try:
        world.require_same("the recipe", f"steps: {world.rank}")
    except ValueError as error:
        message = str(error)
    return {
        "everything": everything.detach(),
        "gradient": own.grad,
        "total": total,
        "untouched": untouched,
        "flags": torch.tensor(flags),
        "message": torch.tensor(list(message.encode())),
    }


def one_rank_fails(world: World) -> dict[str, Tensor]:
    if world.rank == 1:
        raise RuntimeError("rank 1 has had enough")
    return {"never": world.sum_over_ranks(torch.ones(()))}


def place(world: World) -> dict[str, Tensor]:
    ranks = world.gather_rows(torch.tensor([world.rank]))
    return {"place": torch.tensor([world.rank, world.size, world.local_rank]), "ranks": ranks}
