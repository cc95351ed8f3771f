"""Replicas kept alike without DDP: what it does, after the backward pass instead of during it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


@torch.no_grad()
def copy_from_first(module: nn.Module) -> None:
    """Make every rank's parameters and buffers those of rank 0.

    Args:
        module: Changed in place.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor, 0)


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Average the gradients over ranks.

    Args:
        module: A parameter without a gradient on some ranks counts as 0 there; one without a
            gradient on all of them is left without.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        return
    used = torch.tensor(
        [parameter.grad is not None for parameter in trained],
        dtype=torch.int32,
        device=trained[0].device,
    )
    dist.all_reduce(used)
    for parameter, ranks in zip(trained, used.tolist(), strict=True):
        if not ranks:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
