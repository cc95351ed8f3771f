"""The type that linear layers compute in, in every torch from 2.3 on."""

from __future__ import annotations

import torch
from torch import Tensor


def to_autocast(x: Tensor) -> Tensor:
    """Cast to the autocast's type once, where each of several linear layers would do it anew.

    Args:
        x: Any tensor.

    Returns:
        The same in the type that linear layers compute in.
    """
    kind = x.device.type
    if hasattr(torch, "get_autocast_dtype"):
        return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
    # before torch 2.4 each kind of device had functions of its own
    if kind == "cuda" and torch.is_autocast_enabled():
        return x.to(torch.get_autocast_gpu_dtype())
    if kind == "cpu" and torch.is_autocast_cpu_enabled():
        return x.to(torch.get_autocast_cpu_dtype())
    return x
