"""Which part of which encoder a parameter belongs to, for gradients measured part by part."""

from __future__ import annotations

from torch import nn

from flava_plugin.train.sharding.units import layers_of

APART = "heads/all"
"""Group of what belongs to no encoder: heads, contrastive projections and logit scales.

An objective has these for itself, so that nothing is shared there.
"""

ENCODERS = {"image_encoder": "image", "text_encoder": "text", "mm_encoder": "fused"}
"""By the backbone's own name of an encoder, what it is called in a diagnosis."""

EACH = 6
"""An encoder of more layers is measured by thirds of them, so that a table can be read."""


def groups_of(learner: nn.Module) -> dict[str, str]:
    """Say to which group each parameter belongs.

    Args:
        learner: A learner that is whole, not yet sharded.

    Returns:
        ``encoder/part`` by the learner's own name of a parameter; the parts are ``embeddings``
        (what comes before the first layer; of the fused encoder also the projections to its
        width), ``layer 1`` and so on (``layers 1-4`` where there are more than ``EACH``) and
        ``final`` (what comes after the last one). What is in no encoder is in ``APART``.
    """
    groups = {name: APART for name, _ in learner.named_parameters(remove_duplicate=False)}
    backbone: nn.Module = getattr(learner, "backbone", nn.Module())
    for child, module in backbone.named_children():
        if child.endswith("_to_mm_projection"):
            for name, _ in module.named_parameters(f"backbone.{child}"):
                groups[name] = "fused/embeddings"
        if child not in ENCODERS:
            continue
        layers = list(dict.fromkeys(layers_of(module)))
        depth: dict[nn.Parameter, int] = {}
        for number, layer in enumerate(layers, start=1):
            for parameter in layer.parameters():
                depth.setdefault(parameter, number)
        reached = 0
        for name, parameter in module.named_parameters(f"backbone.{child}", remove_duplicate=False):
            reached = max(reached, depth.get(parameter, 0))
            part = _part(depth.get(parameter), len(layers), after=bool(reached))
            groups[name] = f"{ENCODERS[child]}/{part}"
    return groups


def _part(number: int | None, layers: int, *, after: bool) -> str:
    if number is None:
        return "final" if after else "embeddings"
    if layers <= EACH:
        return f"layer {number}"
    bounds = [layers * third // 3 for third in range(4)]
    third = next(n for n in range(3) if number <= bounds[n + 1])
    return f"layers {bounds[third] + 1}-{bounds[third + 1]}"
