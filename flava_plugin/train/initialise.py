"""Weights that a run starts from: the backbone of another run, every name and shape of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from flava_plugin.train import checkpoint


def backbone_of(run_dir: Path) -> dict[str, Tensor]:
    """Read the backbone of another run's newest checkpoint.

    Args:
        run_dir: That run's folder.

    Returns:
        Tensors by name, without the leading ``backbone.``.
    """
    tensors = checkpoint.find(run_dir).model()
    return {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}


def load_backbone(backbone: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load backbone weights, every name and shape of which must fit.

    Args:
        backbone: The learner's backbone.
        tensors: Weights by name.
        source: Where they come from, for the message.

    Raises:
        ValueError: Names or shapes differ; each is listed.
    """
    own = backbone.state_dict()
    faults = [f"  {name}: not in {source}" for name in own if name not in tensors]
    faults += [f"  {name}: only in {source}" for name in tensors if name not in own]
    faults += [
        f"  {name}: {tuple(tensor.shape)} here, {tuple(tensors[name].shape)} in {source}"
        for name, tensor in own.items()
        if name in tensors and tensor.shape != tensors[name].shape
    ]
    if faults:
        raise ValueError(
            f"init.run: the backbone of {source} does not fit this recipe's model:\n"
            + "\n".join(faults)
            + "\nuse the model section of that run's recipe.yaml"
        )
    backbone.load_state_dict(dict(tensors))
