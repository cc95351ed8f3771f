"""DALL-E's encoder out of a file of ``torch.save``: OpenAI's whole module, or a state.

OpenAI publishes ``encoder.pkl``, a pickled module of its package ``dall_e``. Its classes are told
apart by name only; neither they nor torch's modules are made.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from flava_plugin.data.dalle_file import GROUPS, channels_last, check_shapes, check_type, our_names
from flava_plugin.data.pickle_record import Instance
from flava_plugin.data.torch_record import Stored, read_tensors

ENCODER = "dall_e.encoder.Encoder"
BLOCK = "dall_e.encoder.EncoderBlock"
CLASSES = frozenset(
    {
        ENCODER,
        BLOCK,
        "dall_e.utils.Conv2d",
        "torch.nn.modules.activation.ReLU",
        "torch.nn.modules.container.Sequential",
        "torch.nn.modules.linear.Identity",
        "torch.nn.modules.pooling.MaxPool2d",
    }
)
"""What dall_e/encoder.py is made of."""


def read_published(path: Path) -> dict[str, Tensor]:
    """Read an encoder from a file of ``torch.save``.

    Args:
        path: OpenAI's ``encoder.pkl``, or a state (``.pt``) under a name that ``our_names`` knows.

    Returns:
        fp32 tensors by our names, kernels channels-last.

    Raises:
        ValueError: It is no such file, or holds anything else; see ``read_tensors``.
    """

    def choose(root: Any) -> dict[str, Stored]:
        if isinstance(root, Instance) and root.kind == ENCODER:
            found: dict[str, Stored] = {}
            gains: set[float] = set()
            try:
                _collect(root, "", found, gains, set())
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        elif type(root) is dict:
            state = {str(n): value for n, value in root.items() if isinstance(value, Stored)}
            found = {ours: state[name] for name, ours in our_names(state).items()}
            gains = set()
        else:
            kind = root.kind if isinstance(root, Instance) else type(root).__name__
            raise ValueError(f"{path}: holds '{kind}', neither '{ENCODER}' nor a state")
        _, _, blocks = check_shapes({n: t.size for n, t in found.items()}, str(path))
        for name, tensor in found.items():
            check_type(name, tensor.storage.dtype, path)
        gain = 1 / (GROUPS * blocks) ** 2
        if any(not math.isclose(other, gain) for other in gains):
            raise ValueError(f"{path}: post_gain is {sorted(gains)} instead of {gain}")
        return found

    tensors = read_tensors(path, CLASSES, choose)
    return {name: channels_last(tensors.pop(name)) for name in list(tensors)}


def _collect(
    module: Instance, prefix: str, found: dict[str, Stored], gains: set[float], seen: set[int]
) -> None:
    """Walk a module's record as ``nn.Module.state_dict`` walks a module."""
    # A record may contain itself; a module of dall_e stands in one place.
    if id(module) in seen:
        raise ValueError(f"refused: one module twice, again at '{prefix}'")
    seen.add(id(module))
    if module.kind == BLOCK:
        gain = module.state.get("post_gain")
        gains.add(gain if isinstance(gain, float) else math.nan)
    for name, value in _mapping(module, "_parameters").items():
        if isinstance(value, Stored):
            found[f"{prefix}{name}"] = value
    for name, value in _mapping(module, "_modules").items():
        if not isinstance(value, Instance) or prefix.count(".") > 8:
            raise ValueError(f"refused: '{prefix}{name}' is no module of such a file")
        _collect(value, f"{prefix}{name}.", found, gains, seen)


def _mapping(module: Instance, name: str) -> dict[str, Any]:
    value = module.state.get(name)
    if type(value) is not dict:
        raise ValueError(f"damaged: an object of '{module.kind}' without {name}")
    return value
