"""Layer-wise decay of the learning rate: the nearer to the input, the less a weight moves."""

from __future__ import annotations

from torch import nn

from flava_plugin.train.sharding.units import layers_of


def layer_rates(learner: nn.Module, decay: float) -> dict[str, float]:
    """Say by what factor each parameter's learning rate is lower.

    Layers are counted in each encoder by itself, from its output, as BEiT's
    ``get_num_layer_for_vit`` does: with N layers the last one has ``decay``, the first one
    ``decay ** N``. What an encoder has before its first layer (embeddings, class and mask tokens)
    has ``decay ** (N + 1)``; what it has after its last one (a final norm), and all that belongs to
    no encoder, has 1.

    Args:
        learner: A learner that is whole, not yet sharded.
        decay: Above 0, at most 1.

    Returns:
        Factor by the learner's own name of a parameter, where it is not 1.
    """
    rates: dict[str, float] = {}
    if decay == 1.0:
        return rates
    names = {module: name for name, module in learner.named_modules()}
    backbone: nn.Module = getattr(learner, "backbone", nn.Module())
    for encoder in backbone.children():
        layers = list(dict.fromkeys(layers_of(encoder)))
        if not layers:
            continue
        depth: dict[nn.Parameter, int] = {}
        for number, layer in enumerate(layers, start=1):
            for parameter in layer.parameters():
                depth.setdefault(parameter, number)
        reached = 0
        for name, parameter in encoder.named_parameters(names[encoder], remove_duplicate=False):
            reached = max(reached, depth.get(parameter, 0))
            number = depth.get(parameter, 0 if not reached else len(layers) + 1)
            if number <= len(layers):
                rates[name] = decay ** (len(layers) + 1 - number)
    return rates
