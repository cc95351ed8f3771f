"""Lets FairScale's FSDP compute on a CPU over gloo, so that its logic can be tested without GPUs.

FairScale 0.4.13 takes CUDA streams whether or not there is a GPU. Here these are stand-ins that do
nothing, which is what streams amount to where everything happens in order.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import fairscale.internal.reduce_scatter_bucketer as bucketer
import fairscale.nn.data_parallel.fully_sharded_data_parallel as fsdp
import torch
import torch.distributed as dist
from torch import Tensor

from flava_plugin.train.sharding import fairscale_fsdp


class Stream:
    def wait_stream(self, other: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


STREAM = Stream()


class Streams(dict[str, Stream]):
    def __missing__(self, name: str) -> Stream:
        return STREAM


class Stand(types.ModuleType):
    """A module but for some of its names."""

    def __init__(self, module: types.ModuleType, **instead: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(instead, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


NO_CUDA = types.SimpleNamespace(
    is_available=lambda: False,
    synchronize=lambda *_: None,
    current_stream=lambda *_: STREAM,
    stream=lambda _: contextlib.nullcontext(),
)


def reduce_scatter(output: Tensor, inputs: list[Tensor], group: Any) -> None:
    """By all-reduce: FairScale's form of it is none that gloo takes."""
    everything = torch.stack(inputs)
    dist.all_reduce(everything, group=group)
    output.copy_(everything[dist.get_rank(group)])


@contextlib.contextmanager
def fairscale_on_cpu() -> Iterator[None]:
    setup = fsdp.FullyShardedDataParallel._setup_streams

    def setup_streams(root: fsdp.FullyShardedDataParallel) -> None:
        setup(root)
        for module in root.modules():
            if isinstance(module, fsdp.FullyShardedDataParallel):
                module._streams = Streams()

    with contextlib.ExitStack() as stack:
        for target, name, instead in (
            (fairscale_fsdp, "require_cuda", lambda device: None),
            (fsdp, "torch", Stand(torch, cuda=NO_CUDA)),
            (fsdp, "enable_nccl_base_collectives", False),
            (fsdp.FullyShardedDataParallel, "_setup_streams", setup_streams),
            (torch.Tensor, "record_stream", lambda *_: None),
            (bucketer, "enable_nccl_base_collectives", False),
            (bucketer, "dist", Stand(dist, reduce_scatter=reduce_scatter)),
        ):
            stack.enter_context(mock.patch.object(target, name, instead))
        yield
