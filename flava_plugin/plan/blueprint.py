"""The recipe's model without its weights: shapes on the meta device, exact parameter counts.

No data file has to be there. Where the tokenizer's or the codebook's file is missing, the size of
its vocabulary is assumed, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from flava_plugin import registry
from flava_plugin.model.attention import EncoderLayer, EncoderStack
from flava_plugin.model.learner import Learner, Loss
from flava_plugin.model.parts import build_backbone, build_part, widths_of
from flava_plugin.plan.codebook import CodebookCost, codebook_cost
from flava_plugin.plan.options import Options
from flava_plugin.recipe import Recipe

ENCODERS = {
    "image encoder": "image_encoder",
    "text encoder": "text_encoder",
    "multimodal encoder": "mm_encoder",
}
"""The backbone's attribute by a part's name in the plan."""


@dataclass(frozen=True)
class Stack:
    """The transformer layers of an encoder.

    Attributes:
        layers: How many.
        width: Width D.
        heads: Attention heads H.
        mlp: Width M of the feed-forward blocks.
        dropout: Share dropped.
        hidden: How many tensors of width M the MLP keeps: GELU its input and output, QuickGELU the
            sigmoid besides.
        norms_input: Whether the embeddings go through a norm first.
    """

    layers: int
    width: int
    heads: int
    mlp: int
    dropout: float
    hidden: int = 2
    norms_input: bool = False

    @property
    def layer_numbers(self) -> int:
        """Parameters of one layer: four products of attention, two of the MLP, two norms."""
        width, mlp = self.width, self.mlp
        return 4 * width * (width + 1) + 2 * width * mlp + mlp + width + 4 * width


@dataclass(frozen=True)
class Blueprint:
    """What the recipe builds.

    Attributes:
        learner: On the meta device, without a codebook.
        stacks: Layers by part, such as ``image encoder``.
        codebook: What making codes costs; None without a codebook.
        words: Size of the vocabulary.
        patches: Patches P of an image.
        assumed: Lines that say what was assumed for want of a file.
    """

    learner: Learner
    stacks: dict[str, Stack]
    codebook: CodebookCost | None
    words: int
    patches: int
    assumed: tuple[str, ...]


def draw(recipe: Recipe, options: Options) -> Blueprint:
    """Build a recipe's model on the meta device.

    Args:
        recipe: The recipe.
        options: What to assume where files are missing.

    Returns:
        The blueprint.

    Raises:
        ValueError: Parts do not fit together, or an encoder is none whose cost is known.
    """
    words, assumed = _words(recipe, options)
    model, seed = recipe.model, recipe.seed
    with torch.device("meta"):
        backbone = build_backbone(model, words=words, seed=seed)
    stacks = {part: _stack(encoder, part) for part, encoder in _encoders(backbone)}
    codebook = None
    if model.codebook is not None:
        patches = int(backbone.image_encoder.num_patches)  # type: ignore[arg-type]
        codebook, said = codebook_cost(
            model.codebook, recipe.data.image, recipe.data.masking.patch_count, patches, options
        )
        assumed += said
    widths = widths_of(backbone, words, codebook, recipe.data.image.size)
    heads: dict[str, nn.Module] = {}
    losses: dict[str, Loss] = {}
    with torch.device("meta"):
        for name, objective in recipe.objectives.items():
            place = f"objectives.{name}"
            heads[name] = build_part(
                registry.heads, objective.head, f"{place}.head", widths, model=model, seed=seed
            )
            losses[name] = build_part(
                registry.losses, objective.loss, f"{place}.loss", model=model, seed=seed
            )
    modalities = {name: objective.modality for name, objective in recipe.objectives.items()}
    learner = Learner(backbone, heads, losses, modalities)
    return Blueprint(learner, stacks, codebook, words, widths.patches, tuple(assumed))


def parameters(blueprint: Blueprint) -> dict[str, int]:
    """Count parameters exactly, by part.

    Args:
        blueprint: The model.

    Returns:
        Numbers by part: encoders, projections, a head for each objective that has one, losses. The
        codebook is frozen and not among them.
    """
    backbone = blueprint.learner.backbone
    counts = {part: _count(encoder) for part, encoder in _encoders(backbone)}
    counts["projections"] = _count(backbone) - sum(counts.values())
    for name, head in blueprint.learner.heads.items():
        counts[f"head {name}"] = _count(head)
    for name, loss in blueprint.learner.losses.items():
        counts[f"loss {name}"] = _count(loss)
    return {part: count for part, count in counts.items() if count}


def _encoders(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for part, name in ENCODERS.items():
        encoder = getattr(backbone, name)
        if encoder is not None:  # a dual encoder has no multimodal one
            yield part, encoder


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _words(recipe: Recipe, options: Options) -> tuple[int, list[str]]:
    spec = recipe.data.tokenizer
    try:
        return int(registry.tokenizers.build(spec.type, **spec.options).vocab_size), []
    except (OSError, ValueError):
        return options.words, [
            f"vocabulary of {options.words:,} words: the file of data.tokenizer '{spec.type}' is "
            "not here (--words)"
        ]


def _stack(encoder: nn.Module, part: str) -> Stack:
    found = [module for module in encoder.modules() if isinstance(module, EncoderStack)]
    if len(found) != 1:
        raise ValueError(
            f"the {part} is a {type(encoder).__name__}, which is not made of one EncoderStack "
            "(flava_plugin/model/attention.py): its work is not known beforehand; measure a few "
            "steps with 'flava profile'"
        )
    layers = [module for module in found[0].layer if isinstance(module, EncoderLayer)]
    first = layers[0]
    widen = first.feedforward.model[0]
    assert isinstance(widen, nn.Linear), "torchmultimodal's MLP"
    return Stack(
        len(layers),
        first.attention.query.in_features,
        first.attention.heads,
        widen.out_features,
        first.dropout,
        2 if isinstance(first.feedforward.model[1], nn.GELU) else 3,
        # besides those of the layers there is the final one
        sum(isinstance(m, nn.LayerNorm) for m in encoder.modules()) > 2 * len(layers) + 1,
    )
