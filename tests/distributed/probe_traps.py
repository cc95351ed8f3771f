"""What a probe must not rely on: torch does these things without a word."""

from __future__ import annotations

import cases
import shared_batches
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flava_plugin.sections import ShardingSection
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.world import World


def second_backward_under_ddp(world: World) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(2, 1, bias=False)
    wrapped = DistributedDataParallel(layer)
    output = wrapped(torch.full((1, 2), 1.0 + world.rank))
    found = {}
    for key in ("first", "second"):
        layer.weight.grad = None
        output.sum().backward(retain_graph=True)
        assert layer.weight.grad is not None
        found[key] = layer.weight.grad.clone()
    return found


def autograd_under_fsdp2(world: World) -> dict[str, torch.Tensor]:
    learner = shared_batches.learner()
    strategy = make_strategy(ShardingSection(strategy="fsdp2"), learner, cases.OPTIM, world)
    whole = shared_batches.batch("text", cases.ROWS)
    own = shared_batches.share(whole, world.rank, world.size, 1)[0]
    loss = strategy.module(own)["mlm"]
    gathered = [p for _, p in learner.named_parameters() if p.requires_grad]
    values = torch.autograd.grad(loss, gathered, allow_unused=True)
    return {str(n): value for n, value in enumerate(values) if value is not None}
