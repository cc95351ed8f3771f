"""How the built-in layers are computed, which changes time and memory and no result.

But for dropout: what it drops depends on the shapes it is given, so on packing and padding.
"""

from __future__ import annotations

import torch
from torch import nn

from flava_plugin.model.attention import EncoderStack, SelfAttention
from flava_plugin.model.attention_kernels import Kernel

TEXT_MULTIPLE = 32
"""Compiled layers see texts padded to a multiple of this many tokens, so that few shapes occur:
three for captions of up to 77 tokens, sixteen for texts of up to 512."""

WHOLE = 1 << 20
"""Longer than any text: with it every text is padded to the longest that the recipe allows."""

SHAPES_KEPT = 64
"""Shapes for which torch keeps a compiled layer; beyond them it would run uncompiled."""


def set_execution(
    module: nn.Module, *, attention: Kernel = "auto", activation_checkpointing: bool | int = False
) -> None:
    """Choose how every built-in layer of a module is computed.

    Args:
        module: A backbone or what holds one.
        attention: Kernel; ``auto`` takes the fastest for the device and type of each call.
        activation_checkpointing: True computes every layer anew in the backward pass, a number n
            every n-th layer of each encoder, False none.
    """
    for part in module.modules():
        if isinstance(part, EncoderStack):
            part.recompute_every = int(activation_checkpointing)
        elif isinstance(part, SelfAttention):
            part.kernel = attention


def compile_layers(module: nn.Module, *, backend: str = "inductor") -> None:
    """Compile every built-in layer but each encoder's last, in place and for static shapes.

    One compiled layer serves all layers of its shape. The last layer is left as it is: it computes
    as many positions as are read, which differs from step to step. Packing is turned off for the
    same reason. Parameters keep their names.

    Args:
        module: A backbone or what holds one.
        backend: Of ``torch.compile``.
    """
    config = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, limit, max(getattr(config, limit), SHAPES_KEPT))
    for part in module.modules():
        if isinstance(part, EncoderStack):
            part.may_pack = False
            for layer in part.layer[:-1]:
                layer.compile(dynamic=False, backend=backend)


def text_multiple(*, compiled: bool, padding_is_read: bool) -> int:
    """Choose of how many tokens the length of a micro-batch's texts is to be a multiple.

    Args:
        compiled: Whether layers are compiled.
        padding_is_read: Whether the multimodal encoder attends to padding (``padding: released``).
            Its results depend on how much there is, so there is always the most, as upstream.

    Returns:
        1 for as long as the longest text.
    """
    if padding_is_read:
        return WHOLE
    return TEXT_MULTIPLE if compiled else 1


def compiled_graphs() -> int:
    """Count the graphs that torch has compiled in this process, recompilations included.

    Returns:
        The count.
    """
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
