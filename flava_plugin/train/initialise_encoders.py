"""Encoders that start from trainings of their own, as the paper's do.

FLAVA's image encoder starts from a ViT that DINO trained, its text encoder from MLM alone; the
multimodal encoder, the projections and the heads start fresh (arXiv 2112.04482). An encoder is
taken whole or not at all, and whatever does not fit is refused by name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor

from flava_plugin.model.learner import Learner
from flava_plugin.model.weights import guess_format
from flava_plugin.model.weights_file import read_safetensors
from flava_plugin.sections import ModelSection
from flava_plugin.sections_data import DataSection
from flava_plugin.sections_init import EncoderInit, InitSection
from flava_plugin.train import checkpoint
from flava_plugin.train.initialise_fit import differences, misfits, resized, shapes

Kind = Literal["image", "text"]
Value = TypeVar("Value")

HEADS: dict[Kind, str] = {"image": "mim", "text": "mlm"}
"""The objective that trains an encoder alone."""

OURS = "backbone."
BERT = re.compile(r"attention\.self\.|attention\.output\.LayerNorm|sa_layer_norm")
"""Names of BERT, RoBERTa and DistilBERT, whose layers norm behind attention."""

HEAD_WIDTH = 64
"""Width of an attention head in the usual ViTs up to L."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What an encoder is to start from.

    Attributes:
        tensors: By the learner's names, of other parts as well.
        said: What was read, for the log.
        heads: Its number of attention heads, None where it is not said.
        recipe: Of a run, as plain data; None for a file.
        foreign: Whether it is of another's ViT, which may lack a mask token and a pooler.
    """

    tensors: dict[str, Tensor]
    said: str
    heads: int | None = None
    recipe: Mapping[str, Any] | None = None
    foreign: bool = False


def load_encoders(
    learner: Learner, init: InitSection, model: ModelSection, data: DataSection
) -> None:
    """Give a learner's encoders their first weights; all else of it stays fresh.

    Args:
        learner: The learner, before it is sharded.
        init: With ``image``, ``text`` or both.
        model: The recipe's model.
        data: What the recipe reads, and how.

    Raises:
        ValueError: Something cannot be read or does not fit; all faults of both encoders.
    """
    taken: dict[str, Tensor] = {}
    faults: list[str] = []
    for kind, part in parts_of(init).items():
        try:
            taken |= _take(learner, kind, part, model, data)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("\n".join(faults))
    learner.load_state_dict(taken, strict=False)


def parts_of(init: InitSection) -> dict[Kind, EncoderInit]:
    """List the encoders that start from elsewhere.

    Args:
        init: The section.

    Returns:
        What the recipe says of each.
    """
    parts: dict[Kind, EncoderInit | None] = {"image": init.image, "text": init.text}
    return {kind: part for kind, part in parts.items() if part is not None}


def part_of(values: Mapping[str, Value], kind: Kind, *, head: bool) -> dict[str, Value]:
    """Choose what belongs to an encoder.

    Args:
        values: By the learner's names.
        kind: Which encoder.
        head: Whether the head of its objective belongs to it.

    Returns:
        Values by name, an encoder's without the leading ``backbone.``.
    """
    wanted = (f"{OURS}{kind}_encoder.", f"heads.{HEADS[kind]}.")
    chosen = wanted if head else wanted[:1]
    return {name.removeprefix(OURS): v for name, v in values.items() if name.startswith(chosen)}


def unlike(
    kind: Kind,
    part: EncoderInit,
    model: ModelSection,
    data: DataSection,
    theirs: Mapping[str, Any],
) -> list[str]:
    """Find what weights do not show: what a run had that this recipe has otherwise.

    Args:
        kind: Which encoder.
        part: What is taken.
        model: This recipe's model.
        data: What this recipe reads, and how.
        theirs: The run's recipe as plain data.

    Returns:
        A line for each difference that gives the same weights another meaning: encoder and
        attention heads; of texts the tokenizer; of a head for patches the codebook.
    """
    key = f"{kind}_encoder"
    spec = model.image_encoder if kind == "image" else model.text_encoder
    own = {"type": spec.type, "heads": spec.options.get("heads")}
    other = theirs["model"][key]
    lines = differences(own, {name: other.get(name) for name in own}, f"model.{key}")
    if kind == "text":
        tokenizer = data.tokenizer.model_dump(mode="json")
        lines += differences(tokenizer, theirs["data"]["tokenizer"], "data.tokenizer")
    elif part.head:
        codebook = model.codebook.model_dump(mode="json") if model.codebook else {}
        lines += differences(codebook, theirs["model"]["codebook"] or {}, "model.codebook")
    return lines


def no_objective(kind: Kind) -> str:
    """Say that a recipe has no use for a head.

    Args:
        kind: Of the encoder whose head is asked for.

    Returns:
        A line.
    """
    return (
        f"  objectives.{HEADS[kind]}: is not in this recipe, so its head cannot be taken; leave "
        f"init.{kind}.head out"
    )


def _take(
    learner: Learner, kind: Kind, part: EncoderInit, model: ModelSection, data: DataSection
) -> dict[str, Tensor]:
    """Read an encoder's weights, by the learner's names, which all have to fit."""
    key = f"init.{kind}.{'run' if part.run else 'weights'}"
    place = f"{key}: {part.run or part.weights}"
    found = _of_run(part.run, kind) if part.run else _of_file(part, kind, place)
    head = part.head and HEADS[kind] in learner.heads
    faults = [no_objective(kind)] if part.head and not head else list[str]()
    heads = (model.image_encoder if kind == "image" else model.text_encoder).options.get("heads")
    if found.recipe is not None:
        faults += unlike(kind, part, model, data, found.recipe)
        _tell_of_pixels(kind, data, found.recipe, place)
    elif found.heads is not None and heads not in (None, found.heads):
        faults.append(f"  model.{kind}_encoder.heads: {heads} here, {found.heads} there")
    own, given = (part_of(t, kind, head=head) for t in (learner.state_dict(), found.tensors))
    try:
        given = resized(own, given, place)
    except ValueError as error:
        faults.append(f"  {error}")
    fresh = [name for name in own if name not in given and found.foreign and _may_lack(name)]
    faults += misfits({n: s for n, s in shapes(own).items() if n not in fresh}, shapes(given))
    if faults:
        raise ValueError(
            f"{place}: what is to be taken does not fit this recipe:\n"
            + "\n".join(faults)
            + f"\ngive model.{kind}_encoder the sizes that those weights have"
            + (", and use their tokenizer" if kind == "text" else "")
        )
    if found.foreign and isinstance(heads, int):
        _tell_of_heads(given, heads, place)
    logger.info("%s: %s; %d weights are taken", place, found.said, len(given))
    if fresh:
        logger.info("%s: not in it, so they start fresh: %s", place, ", ".join(sorted(fresh)))
    encoder = f"{kind}_encoder."
    return {OURS + n if n.startswith(encoder) else n: value for n, value in given.items()}


def _of_run(run: Path, kind: Kind) -> Found:
    """The newest checkpoint of a run, averaged where the run averages."""
    found = checkpoint.find(run)
    said = f"the {kind} encoder of step {found.step}"
    return Found(found.model("auto"), said, recipe=found.state["recipe"])


def _of_file(part: EncoderInit, kind: Kind, place: str) -> Found:
    path = part.weights
    assert path is not None
    try:
        if path.suffix == ".safetensors":
            tensors, settings = read_safetensors(path)
            if any(name.startswith(OURS) for name in tensors):
                heads = None if settings is None else settings.heads[kind == "text"]
                return Found(tensors, f"the {kind} encoder of a file of ours", heads)
            if kind == "text":
                raise ValueError(_not_ours(tensors, path))
        from flava_plugin.model.weights_vit import read_vit

        vit = read_vit(path)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if vit.unused:
        logger.info("%s: not used: %s", place, ", ".join(vit.unused))
    found = {f"{OURS}image_encoder.{name}": value for name, value in vit.tensors.items()}
    return Found(found, vit.source, foreign=True)


def _not_ours(names: Mapping[str, Tensor], path: Path) -> str:
    """Why a file's text encoder cannot be taken."""
    if any(BERT.search(name) for name in names):
        return (
            "holds the names of BERT, whose layers norm behind attention and feed-forward block "
            "(post-norm); FLAVA's text encoder norms before them (pre-norm), where these weights "
            "mean something else. Train one by MLM, such as pretrain/mlm_base, and give its run as "
            "init.text.run"
        )
    return (
        f"holds the names of {guess_format(names)}; write one of ours with 'flava weights convert "
        f"{path} {path.stem}_ours.safetensors --to flava_plugin'"
    )


def _may_lack(name: str) -> bool:
    return name.endswith("embeddings.mask_token") or ".pooler." in name


def _tell_of_pixels(kind: Kind, data: DataSection, theirs: Mapping[str, Any], place: str) -> None:
    if kind == "image":
        own = data.image.model_dump(mode="json")
        saved = {name: theirs["data"]["image"][name] for name in ("mean", "std")}
        for line in differences({name: own[name] for name in saved}, saved, "data.image"):
            logger.warning("%s: it has not seen such pixels: %s", place, line.strip())


def _tell_of_heads(given: Mapping[str, Tensor], heads: int, place: str) -> None:
    width = len(given["image_encoder.layernorm.weight"]) // heads
    if width != HEAD_WIDTH:
        logger.warning(
            "%s: does not say its attention heads; usual ones are %d wide, and here %d, for "
            "model.image_encoder.heads is %d",
            *(place, HEAD_WIDTH, width, heads),
        )
