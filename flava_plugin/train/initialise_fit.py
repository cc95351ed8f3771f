"""Whether weights of elsewhere fit a learner: names, shapes, attention heads."""

from __future__ import annotations

import filecmp
import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flava_plugin.model.positions import resize_positions

POSITIONS = "image_encoder.embeddings.position_embeddings"
Shape = tuple[int, ...]

logger = logging.getLogger(__name__)


def misfits(own: Mapping[str, Shape], given: Mapping[str, Shape]) -> list[str]:
    """Find names and shapes of a backbone that other weights do not have.

    Args:
        own: Shapes by name.
        given: Those of the weights; positions of images may differ in their number.

    Returns:
        A line for each.
    """
    faults = [f"  {name}: is missing there" for name in own if name not in given]
    faults += [f"  {name}: is there, but not in this model" for name in given if name not in own]
    return faults + [
        f"  {name}: {shape} here, {given[name]} there"
        for name, shape in own.items()
        if name in given and shape != given[name]
        if name != POSITIONS or not _resizable(shape, given[name])
    ]


def resized(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], place: str
) -> dict[str, Tensor]:
    """Resize position embeddings of images where only their number differs.

    Args:
        own: A backbone's weights by name.
        given: Those it is to take.
        place: What says so and where they come from, for messages.

    Returns:
        The weights to take.

    Raises:
        ValueError: There is no grid to resize.
    """
    given = dict(given)
    if _resizable(shapes(own).get(POSITIONS), shapes(given).get(POSITIONS)):
        old, new = given[POSITIONS].shape[1] - 1, own[POSITIONS].shape[1] - 1
        try:
            given[POSITIONS] = resize_positions(given[POSITIONS], (math.isqrt(new),) * 2)
        except ValueError as error:
            raise ValueError(
                f"{place}: {POSITIONS} cannot be resized to {new} patches: {error}; give "
                "model.image_encoder the image and patch size that those weights have"
            ) from error
        logger.info("%s: %s is resized from %d to %d patches", place, POSITIONS, old, new)
    return given


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """List shapes.

    Args:
        tensors: By name.

    Returns:
        Shape by name.
    """
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def differences(own: Mapping[str, Any], theirs: Mapping[str, Any], key: str) -> list[str]:
    """Compare options; two files of the same contents are the same.

    Args:
        own: Values by name.
        theirs: Those of the weights.
        key: Of the recipe, where they stand.

    Returns:
        A line for each that differs.
    """
    return [
        f"  {key}.{name}: {own.get(name)} here, {theirs.get(name)} there"
        for name in sorted(own.keys() | theirs.keys())
        if own.get(name) != theirs.get(name) and not _same_file(own.get(name), theirs.get(name))
    ]


def attention_heads(encoder: nn.Module) -> int | None:
    """Say how many attention heads an encoder has, of which its weights show no trace.

    Args:
        encoder: An encoder.

    Returns:
        The number; None for an encoder of another form, such as another package's.
    """
    layers: Any = getattr(getattr(encoder, "encoder", None), "layer", None)
    first = layers[0] if isinstance(layers, nn.ModuleList) and len(layers) else None
    heads: int | None = getattr(getattr(first, "attention", None), "heads", None)
    return heads


def _same_file(own: Any, theirs: Any) -> bool:
    if not isinstance(own, str) or not isinstance(theirs, str):
        return False
    try:
        return filecmp.cmp(os.path.expandvars(own), os.path.expandvars(theirs), shallow=False)
    except (OSError, ValueError):  # no file, or no path at all
        return False


def _resizable(own: Shape | None, given: Shape | None) -> bool:
    """Whether two tables of positions differ in their number alone."""
    if own is None or given is None or len(own) != 3 or len(given) != 3:
        return False
    return own != given and own[::2] == given[::2] and given[0] == 1
