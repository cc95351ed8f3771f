"""Weights that a run starts from: another run's backbone, or a file of converted weights.

Encoders that start from trainings of their own are taken by ``initialise_encoders.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flava_plugin.model.learner import Learner
from flava_plugin.model.weights import guess_format
from flava_plugin.model.weights_file import Settings, read_safetensors
from flava_plugin.model.weights_shapes import objective_of
from flava_plugin.sections import ModelSection
from flava_plugin.sections_data import DataSection
from flava_plugin.sections_init import InitSection
from flava_plugin.train import checkpoint
from flava_plugin.train.initialise_encoders import load_encoders
from flava_plugin.train.initialise_fit import attention_heads, misfits, resized, shapes

ENCODERS = ("image_encoder", "text_encoder", "mm_encoder")

logger = logging.getLogger(__name__)


def load(learner: Learner, init: InitSection, model: ModelSection, data: DataSection) -> None:
    """Give a learner its first weights, as the recipe's ``init`` says.

    Args:
        learner: The learner, before it is sharded.
        init: Where they come from.
        model: The recipe's model.
        data: What the recipe reads, and how.
    """
    if init.run is not None:
        load_backbone(learner.backbone, backbone_of(init.run), f"init.run: {init.run}")
    elif init.weights is not None:
        load_weights(learner, init.weights)
    else:
        load_encoders(learner, init, model, data)


def backbone_of(run_dir: Path) -> dict[str, Tensor]:
    """Read the backbone of another run's newest checkpoint, averaged where the run averages.

    Args:
        run_dir: That run's folder.

    Returns:
        Tensors by name, without the leading ``backbone.``.
    """
    return _backbone(checkpoint.find(run_dir).model("auto"))


def load_weights(learner: Learner, path: Path) -> None:
    """Load a file of ours: the backbone, and what the objectives have of heads and logit scale.

    What of the file is not used and what of the learner stays fresh is logged by name. A head is
    taken whole or not at all.

    Args:
        learner: The learner.
        path: A safetensors file by our names.

    Raises:
        ValueError: It is no such file, its backbone does not fit, or it was made with other
            numbers of attention heads.
    """
    place = f"init.weights: {path}"
    tensors, settings = read_safetensors(path)
    try:
        origin = guess_format(tensors)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if origin != "flava_plugin":
        raise ValueError(
            f"{place} holds the names of {origin}; write one of ours with 'flava weights convert "
            f"{path} {path.stem}_ours.safetensors --to flava_plugin'"
        )
    if settings is not None:
        _compare(learner, settings, place)
    load_backbone(learner.backbone, _backbone(tensors), place)

    own = {n: t for n, t in learner.state_dict().items() if not n.startswith("backbone.")}
    rest = {n: t for n, t in tensors.items() if not n.startswith("backbone.")}
    unfit = {
        objective_of(name)
        for name in own.keys() | rest.keys()
        if name not in own or name not in rest or own[name].shape != rest[name].shape
    }
    taken = {name: tensor for name, tensor in rest.items() if objective_of(name) not in unfit}
    learner.load_state_dict(taken, strict=False)
    for what, names in (
        ("not used, for no objective has them in this form", rest.keys() - taken.keys()),
        ("not in it in this form, so they start fresh", own.keys() - taken.keys()),
    ):
        if names:
            logger.info("%s: %s: %s", place, what, ", ".join(sorted(names)))
    logger.info("%s: the backbone and %d weights of objectives are loaded", place, len(taken))


def load_backbone(backbone: nn.Module, tensors: Mapping[str, Tensor], place: str) -> None:
    """Load backbone weights, every name and shape of which must fit.

    Position embeddings of images are resized where only their number differs.

    Args:
        backbone: The learner's backbone.
        tensors: Weights by name.
        place: What says so and where they come from, for the message.

    Raises:
        ValueError: Names or shapes differ, each of which is listed; or positions cannot be resized.
    """
    own = backbone.state_dict()
    given = resized(own, tensors, place)
    faults = misfits(shapes(own), shapes(given))
    if faults:
        raise ValueError(
            f"{place}: its backbone does not fit this recipe's model:\n"
            + "\n".join(faults)
            + "\ngive the model section the sizes that those weights have, and use their tokenizer"
        )
    backbone.load_state_dict(given)


def _backbone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}


def _compare(learner: Learner, settings: Settings, place: str) -> None:
    """Refuse other attention heads, which would compute something else; tell of the rest."""
    backbone: Any = learner.backbone
    wrong = []
    for name, heads in zip(ENCODERS, settings.heads, strict=True):
        own = attention_heads(getattr(backbone, name))
        if own not in (None, heads):
            wrong.append(f"  {name}: {own} here, {heads} there")
    if wrong:
        raise ValueError(
            f"{place}: its numbers of attention heads are not this recipe's:\n" + "\n".join(wrong)
        )
    if backbone.padding != settings.padding:
        logger.warning(
            "%s: made with padding: %s, and model.padding is %s",
            place,
            settings.padding,
            backbone.padding,
        )
    for name, head in learner.heads.items():
        norm = getattr(getattr(head, "cls", None), "layer_norm", None)
        if norm is not None and norm.eps != settings.norm_eps:
            logger.warning(
                "%s: made with norm_eps %g, and objectives.%s.head.norm_eps is %g",
                place,
                settings.norm_eps,
                name,
                norm.eps,
            )
