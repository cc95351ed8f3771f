"""What one optimiser step executes on one GPU: passes, predicted positions, micro-batches.

Read from the objectives as the backbone reads them: a view runs where a head or the multimodal
encoder reads it, the last layer only where its output is read.

Legend for shapes: B rows of a micro-batch, P patches, L tokens, S positions, G global batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from flava_plugin.data.steps import micro_batch_rows
from flava_plugin.model.learner import hides
from flava_plugin.model.reads import parse_needs
from flava_plugin.plan.blueprint import Blueprint
from flava_plugin.plan.options import Options
from flava_plugin.plan.shares import mean_shares
from flava_plugin.recipe import Recipe
from flava_plugin.types import MODALITIES, Modality

SPECIAL = 2
"""[CLS] and [SEP], which are never hidden."""

EVERYTHING: dict[Modality, tuple[str, ...]] = {
    "image": ("image", "image_masked", "image_projected"),
    "text": ("text", "text_masked", "text_projected"),
    "pair": ("image", "image_masked", "image_projected", "text", "text_masked", "text_projected")
    + ("fused",),
}
"""What a head without ``needs`` reads, by kind of batch (``backbone.fields_of``)."""


@dataclass(frozen=True)
class Pass:
    """An encoder's forward over one view of a micro-batch.

    Attributes:
        part: Such as ``image encoder``.
        view: ``image``, ``image_masked``, ``text``, ``text_masked`` or ``fused``.
        positions: S of a row; of text the mean without padding.
        read: Positions of a row whose output is read, on average; S for all.
    """

    part: str
    view: str
    positions: float
    read: float


@dataclass(frozen=True)
class HeadWork:
    """A head's work on a micro-batch.

    Attributes:
        objective: Its name.
        matrices: Numbers in its matrices, each used once for each position.
        positions: Positions or rows it predicts for.
        vocabulary: V of a masked head, 0 for another.
        width: Width D it reads.
        chunk: Positions decoded at once.
    """

    objective: str
    matrices: int
    positions: float
    vocabulary: int
    width: int
    chunk: int


@dataclass(frozen=True)
class Work:
    """A step of one kind on one GPU.

    Attributes:
        kind: What its batches hold.
        share: Share of steps.
        rows: B of a micro-batch.
        micro_batches: How many of them.
        global_rows: G.
        passes: Of every micro-batch.
        first_pass: Of every micro-batch, without gradients, before (GradCache).
        heads: Of every micro-batch.
        projected: Views whose [CLS] goes through a contrastive projection.
        counted: Share of rows that masked heads and the contrastive loss count.
        compares: How many objectives compare all rows of the global batch.
        coded_rows: Rows of a micro-batch that the codebook sees.
        tokens: Mean tokens L of a text; 0 without text.
    """

    kind: Modality
    share: float
    rows: int
    micro_batches: int
    global_rows: int
    passes: tuple[Pass, ...]
    first_pass: tuple[Pass, ...]
    heads: tuple[HeadWork, ...]
    projected: tuple[str, ...]
    counted: float
    compares: int
    coded_rows: float
    tokens: float


def workload(
    recipe: Recipe, blueprint: Blueprint, options: Options, *, whole_last_layer: bool = False
) -> list[Work]:
    """Find out what each kind of step executes.

    Args:
        recipe: The recipe.
        blueprint: Its model.
        options: GPUs and lengths of texts.
        whole_last_layer: Whether to count as if last layers computed every position.

    Returns:
        A step of each kind that has a source, in the order of ``MODALITIES``.

    Raises:
        ValueError: The global batch does not come out even, or texts cannot have that length.
    """
    shares = {kind: 0.0 for kind in MODALITIES}
    for name, share in mean_shares(recipe)[0].items():
        shares[recipe.data.sources[name].modality] += share
    return [
        _work(recipe, blueprint, options, kind, shares[kind], whole_last_layer)
        for kind in MODALITIES
        if shares[kind]
    ]


def tokens_of(recipe: Recipe, kind: Modality, options: Options) -> int:
    """Mean tokens of a text that a plan assumes.

    Args:
        recipe: The recipe.
        kind: ``text`` or ``pair``; an image has none.
        options: What the command line says.

    Returns:
        The number.

    Raises:
        ValueError: No text of the recipe can be that long or that short.
    """
    if kind == "image":
        return 0
    text = recipe.data.text
    key = f"{kind}_length"
    longest: int = getattr(text, key)
    chosen: int | None = getattr(options, f"{kind}_tokens")
    if chosen is None:
        return max(SPECIAL + 1, longest // 2)
    if not SPECIAL < chosen <= longest:
        raise ValueError(
            f"--{kind}-tokens {chosen}: texts have from {SPECIAL + 1} ([CLS], a word, [SEP]) to "
            f"data.text.{key}={longest} tokens; take a number between, or change data.text.{key}"
        )
    return chosen


def _work(
    recipe: Recipe,
    blueprint: Blueprint,
    options: Options,
    kind: Modality,
    share: float,
    whole_last_layer: bool,
) -> Work:
    learner, data = blueprint.learner, recipe.data
    rows = micro_batch_rows(data, options.gpus)
    micro_batches = data.global_batch // (rows * options.gpus)
    tokens = tokens_of(recipe, kind, options)
    counted = 1.0
    if kind == "pair" and data.matching.no_positives == "skip":
        counted = 1.0 - data.matching.negatives
    hidden = {
        "cls": 1.0,
        "patches": counted * data.masking.patch_count,
        "words": counted * hidden_words(tokens, data.masking.words),
    }
    names = learner.objectives_of(kind)

    def passes_of(objectives: list[str]) -> tuple[tuple[Pass, ...], tuple[str, ...]]:
        needs = [
            need
            for name in objectives
            for need in getattr(learner.heads[name], "needs", EVERYTHING[kind])
        ]
        read = parse_needs(needs)
        views = _views(read, masked=hides(learner))
        lengths = {"image": 1 + blueprint.patches, "text": tokens}
        lengths["fused"] = 1 + lengths["image"] + lengths["text"]
        made = []
        for view, positions in views.items():
            side = view.removesuffix("_masked")
            length = float(lengths[side])
            wanted = length
            if positions is not None and not whole_last_layer:
                wanted = min(length, sum(hidden[position] for position in positions))
            part = {"image": "image encoder", "text": "text encoder"}.get(
                side, "multimodal encoder"
            )
            made.append(Pass(part, view, length, wanted))
        projected = tuple(s for s in ("image", "text") if f"{s}_projected" in read)
        return tuple(made), projected

    passes, projected = passes_of(names)
    compared = learner.objectives_of(kind, only_global=True)
    first = passes_of(compared)[0] if compared and micro_batches > 1 else ()
    codes = any(getattr(learner.heads[name], "needs_codes", False) for name in names)
    skips = blueprint.codebook is not None and blueprint.codebook.selective
    return Work(
        kind,
        share,
        rows,
        micro_batches,
        data.global_batch,
        passes,
        first,
        tuple(_head(blueprint, name, rows, hidden) for name in names),
        projected,
        counted,
        len(compared),
        rows * (counted if skips else 1.0) if codes else 0.0,
        tokens,
    )


def hidden_words(tokens: float, share: float) -> int:
    """Words of a text that are to be predicted (``masking.mask_words``).

    Args:
        tokens: Its tokens, [CLS] and [SEP] included.
        share: ``data.masking.words``.

    Returns:
        At least 1 where any is hidden.
    """
    return max(1, round(share * (tokens - SPECIAL))) if share > 0 else 0


def _views(
    read: dict[str, frozenset[str] | None], *, masked: bool
) -> dict[str, frozenset[str] | None]:
    """The encoders' passes and where each is read, as ``Backbone.forward`` finds them."""
    views = {view: positions for view, positions in read.items() if not view.endswith("_projected")}
    for side in ("image", "text"):
        if f"{side}_projected" in read:
            earlier = views.get(side, frozenset())
            views[side] = None if earlier is None else earlier | {"cls"}
    if "fused" in read:
        suffix = "_masked" if masked else ""
        views |= {f"image{suffix}": None, f"text{suffix}": None}
    return views


def _head(blueprint: Blueprint, name: str, rows: int, hidden: dict[str, float]) -> HeadWork:
    learner = blueprint.learner
    head, loss = learner.heads[name], learner.loss_of(name)
    matrices = [p for p in head.parameters() if p.dim() >= 2]
    target = str(getattr(loss, "target", None))
    masked = target in ("words", "patches")
    positions = rows * hidden[target] if masked else float(rows)
    vocabulary = max((len(p) for p in matrices), default=0) if masked else 0
    width = matrices[0].shape[1] if matrices else 0
    chunk = getattr(loss, "chunk", 0) or int(positions) + 1
    numbers = sum(p.numel() for p in matrices)
    return HeadWork(name, numbers, positions, vocabulary, width, chunk)
