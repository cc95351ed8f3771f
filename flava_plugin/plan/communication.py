"""Bytes that one GPU sends and receives in a step, and the time they take.

Volumes are those of ring algorithms on N ranks (NCCL): a reduce-scatter or an all-gather of V bytes
moves V (N - 1) / N through each GPU in each direction, an all-reduce twice that.

- ``ddp``: all-reduce of all gradients, once a step, whatever the kind of step reaches.
- ``ddp_oss``: the same, then each rank broadcasts the parameters it updated.
- ``fairscale_sdp``: gradients are reduced to their owner, parameters broadcast.
- ``fairscale_fsdp``, ``fsdp2``: parameters are gathered for every forward and every backward of
  every micro-batch, and for the first pass of the cached contrastive loss; gradients are
  reduce-scattered once.
- The contrastive loss: embeddings of all ranks are gathered, their gradients all-reduced.
"""

from __future__ import annotations

from dataclasses import dataclass

from flava_plugin.plan.blueprint import Blueprint, parameters
from flava_plugin.plan.devices import Device
from flava_plugin.plan.options import Options
from flava_plugin.plan.workload import Work


@dataclass(frozen=True)
class Traffic:
    """Bytes through one GPU, each way, in one step.

    Attributes:
        all_reduce: Of gradients, and of the gradients of embeddings.
        reduce_scatter: Of gradients.
        all_gather: Of parameters.
        broadcast: Of parameters after the update; nothing hides it.
        contrastive: Gathering embeddings and their gradients; nothing hides it.
    """

    all_reduce: float
    reduce_scatter: float
    all_gather: float
    broadcast: float
    contrastive: float

    @property
    def hidden(self) -> float:
        """Bytes that move while the GPU computes."""
        return self.all_reduce + self.reduce_scatter + self.all_gather

    @property
    def total(self) -> float:
        """All of them."""
        return self.hidden + self.broadcast + self.contrastive


def traffic(blueprint: Blueprint, work: Work, strategy: str, gpus: int) -> Traffic:
    """Work out a step's volumes.

    Args:
        blueprint: The model.
        work: The step.
        strategy: One of ``memory.STRATEGIES``.
        gpus: Ranks N.

    Returns:
        Bytes; none on one GPU.
    """
    share = (gpus - 1) / gpus
    whole = 4.0 * sum(parameters(blueprint).values()) * share
    all_reduce = reduce_scatter = all_gather = broadcast = 0.0
    if strategy in ("ddp", "ddp_oss"):
        all_reduce = 2 * whole
    if strategy in ("fairscale_sdp", "fairscale_fsdp", "fsdp2"):
        reduce_scatter = whole
    if strategy in ("ddp_oss", "fairscale_sdp"):
        broadcast = whole
    if strategy in ("fairscale_fsdp", "fsdp2"):
        passes = 2 * work.micro_batches + (work.micro_batches if work.first_pass else 0)
        all_gather = passes * whole
    width = blueprint.learner.backbone.image_projection.out_features
    embeddings = 2 * 4.0 * work.global_rows * width * work.compares * share
    return Traffic(all_reduce, reduce_scatter, all_gather, broadcast, 3 * embeddings)


def bandwidth(device: Device, options: Options) -> tuple[float, str]:
    """Find what limits a ring over all GPUs.

    Args:
        device: Its links.
        options: How many GPUs, and other links than the datasheet's.

    Returns:
        Bytes/s and direction, and which link that is.
    """
    per_node = options.gpus_per_node or device.per_node
    link = options.link * 1e9 if options.link else device.link
    network = options.network * 1e9 if options.network else device.network
    if options.gpus <= per_node or network >= link:
        return link, "within a node"
    return network, "between nodes"
