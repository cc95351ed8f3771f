"""What torchmultimodal's encoders put out, made of what ours put out.

Legend for shapes: B rows, S positions, D width, H attention heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from torchmultimodal.modules.layers.transformer import TransformerOutput

from flava_plugin.model.attention import EncoderStack
from flava_plugin.model.inspection import inspect_layers


class Encoded(NamedTuple):
    """What became of an image or a text.

    Attributes:
        last: (B, S, D) output of the last layer, which the multimodal encoder reads.
        states: (B, S, D) the same after the final norm.
        output: Upstream's words for it.
    """

    last: Tensor
    states: Tensor
    output: TransformerOutput


class Layers(NamedTuple):
    """Upstream's lists of what the layers did; None where nobody asked for them.

    Attributes:
        hidden_states: (B, S, D) what the first layer is given, and what each layer puts out.
        attentions: (B, H, S, S) attention weights of each layer.
    """

    hidden_states: list[Tensor] | None = None
    attentions: list[Tensor] | None = None


def encode(encoder: nn.Module, *inputs: Tensor | None, every_layer: bool) -> Encoded:
    """Run an image or text encoder.

    Args:
        encoder: See ``components/encoders.py``.
        *inputs: Of its forward.
        every_layer: Whether to keep what each layer does; detached but for the last state.

    Returns:
        Its output.
    """
    (last, states), layers = run(encoder, *inputs, every_layer=every_layer)
    if layers.hidden_states is not None:
        layers.hidden_states[-1] = last
    return Encoded(last, states, TransformerOutput(states, pooled(encoder, states), *layers))


def fuse(
    encoder: nn.Module, states: Tensor, padding: Tensor | None, *, every_layer: bool
) -> TransformerOutput:
    """Run a multimodal encoder.

    Args:
        encoder: See ``components/encoders.py``.
        states: (B, S, D), image states and then text states.
        padding: (B, S) bool, True at real positions; None to attend to all.
        every_layer: Whether to keep what each layer does; detached.

    Returns:
        Its output.
    """
    fused, layers = run(encoder, states, padding, every_layer=every_layer)
    return TransformerOutput(fused, pooled(encoder, fused), *layers)


def run(encoder: nn.Module, *inputs: Tensor | None, every_layer: bool) -> tuple[Any, Layers]:
    """Run an encoder and, if asked to, note what its layers do.

    Args:
        encoder: One that ``may_be_watched`` where ``every_layer``.
        *inputs: Of its forward.
        every_layer: Whether to.

    Returns:
        What the encoder returns, and its layers' doings.
    """
    if not every_layer:
        return encoder(*inputs), Layers()
    states: list[Tensor] = []

    def note_input(stack: nn.Module, given: tuple[Any, ...]) -> None:
        states.append(given[0].detach())

    handle = cast(nn.Module, encoder.encoder).register_forward_pre_hook(note_input)
    try:
        with inspect_layers(encoder) as record:
            result = encoder(*inputs)
    finally:
        handle.remove()
    states += [runs[0] for runs in record.states.values()]
    return result, Layers(states, [runs[0] for runs in record.weights.values()])


def may_be_watched(encoder: nn.Module) -> bool:
    """Whether an encoder's layers can be looked into.

    Args:
        encoder: Any.

    Returns:
        True where it is made of this package's layers.
    """
    return isinstance(getattr(encoder, "encoder", None), EncoderStack)


def pooled(encoder: nn.Module, states: Tensor) -> Tensor | None:
    """Run an encoder's pooler; no pretraining loss reads it, but upstream's output has it.

    Args:
        encoder: May lack one.
        states: (B, S, D) after the final norm.

    Returns:
        (B, D), or None without a pooler.
    """
    pooler = getattr(encoder, "pooler", None)
    return None if pooler is None else cast(Tensor, pooler(states))


@contextmanager
def padding_computed(encoder: nn.Module) -> Iterator[None]:
    """Have an encoder compute padding, which upstream's multimodal encoder reads.

    Args:
        encoder: One made of this package's layers leaves padding out where that is faster; any
            other is left as it is.

    Yields:
        None: Inside, it computes every position.
    """
    stack: Any = getattr(encoder, "encoder", None)
    earlier = getattr(stack, "may_pack", None)
    if earlier is None:
        yield
        return
    stack.may_pack = False
    try:
        yield
    finally:
        stack.may_pack = earlier
