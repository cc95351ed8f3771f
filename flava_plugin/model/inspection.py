"""Hidden states and attention weights of every layer, for who asks; a plain forward keeps neither.

torchmultimodal returns both from every layer of every forward. Here they are made only inside
``inspect_layers``, so that training pays nothing for them.

Legend for shapes: B rows, L positions, D width, H attention heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from flava_plugin.model.attention import EncoderLayer
from flava_plugin.model.layout import Layout, Reading


@dataclass(frozen=True)
class LayerRecord:
    """What the layers of a model did, by layer name such as ``text_encoder.encoder.layer.0``.

    A layer that runs several times (a pair batch runs an encoder on masked and unmasked rows) has
    an entry per run, in their order.

    Attributes:
        states: (B, L, D) outputs, detached; positions that were not computed are 0.
        weights: (B, H, L, L) fp32 attention weights; rows sum to 1, padding has 0. Rows of
            positions that were not computed are 0.
    """

    states: dict[str, list[Tensor]] = field(default_factory=dict)
    weights: dict[str, list[Tensor]] = field(default_factory=dict)


@contextmanager
def inspect_layers(model: nn.Module) -> Iterator[LayerRecord]:
    """Record every built-in transformer layer that runs in the ``with`` block.

    ``with inspect_layers(flava.learner.backbone) as record: flava.encode_pair(images, texts)``

    Args:
        model: A backbone, an encoder, or what holds them.

    Yields:
        LayerRecord: Filled as layers run, and kept after the block.
    """
    record = LayerRecord()
    layers = [
        (name, part) for name, part in model.named_modules() if isinstance(part, EncoderLayer)
    ]
    handles = [part.register_forward_hook(partial(_note, record, name)) for name, part in layers]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _note(
    record: LayerRecord,
    name: str,
    layer: EncoderLayer,
    inputs: tuple[Tensor, Layout, Reading | None],
    output: Tensor,
) -> None:
    _, layout, reading = inputs
    computed = layout if reading is None else reading.outputs
    record.states.setdefault(name, []).append(computed.unpack(output.detach()))
    record.weights.setdefault(name, []).append(layer.attention_weights(*inputs))
