"""Whether parts fit together: batches hold what heads read, the device can do what is asked."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from flava_plugin.registry import encoders, heads
from flava_plugin.types import Modality

if TYPE_CHECKING:
    from flava_plugin.recipe import Recipe
    from flava_plugin.sections import ObjectiveSection

ONE_SIDED: dict[Modality, frozenset[str]] = {
    "image": frozenset({"image", "image_masked", "image_projected"}),
    "text": frozenset({"text", "text_masked", "text_projected"}),
}
"""Fields of ``Features`` by kind of batch; a batch of pairs has them all."""


def objective_errors(recipe: Recipe) -> Iterator[str]:
    """Find heads that read what their batches or the model do not have.

    Heads say so by the class attributes ``needs`` and ``needs_codes`` and by an option ``reads``;
    of a head that says nothing, the first step will tell.

    Args:
        recipe: A recipe without errors of form.

    Yields:
        str: A line for each error.
    """
    can_hide = hides_patches(recipe)
    for name, objective in recipe.objectives.items():
        try:
            builder = heads.get(objective.head.type)
        except ValueError:
            continue  # an unknown name has its own line
        modality = objective.modality
        for field in sorted(_reads(objective)):
            if field == "fused" and modality == "pair" and recipe.model.fused_encoder is None:
                yield (
                    f"objectives.{name}: head '{objective.head.type}' reads fused, and "
                    "model.fused_encoder is null; name an encoder there, such as flava_fused, or "
                    f"remove the objective with objectives.{name}=null"
                )
            if modality in ONE_SIDED and field not in ONE_SIDED[modality]:
                yield (
                    f"objectives.{name}: head '{objective.head.type}' reads {field}, which a batch "
                    f"of modality '{modality}' does not have; change the modality or the head"
                )
        if getattr(builder, "needs_codes", False) and recipe.model.codebook is None:
            yield (
                f"objectives.{name}: head '{objective.head.type}' predicts the codes of patches; "
                "set model.codebook, which makes them"
            )
        elif getattr(builder, "needs_codes", False) and not can_hide:
            yield (
                f"objectives.{name}: head '{objective.head.type}' predicts hidden patches, and "
                f"model.image_encoder '{recipe.model.image_encoder.type}' can hide none; use "
                f"flava_image, or remove the objective with objectives.{name}=null"
            )


def execution_errors(recipe: Recipe) -> Iterator[str]:
    """Find ways of computing that the recipe's own precision or device rules out.

    Args:
        recipe: A recipe without errors of form.

    Yields:
        str: A line for each error.
    """
    if recipe.attention == "varlen" and (recipe.precision != "bf16" or recipe.device == "cpu"):
        yield (
            "attention: 'varlen' needs CUDA and precision: bf16, and the recipe says device: "
            f"{recipe.device}, precision: {recipe.precision}; take attention: auto"
        )


def sharding_errors(recipe: Recipe) -> Iterator[str]:
    """Find what a sharding strategy cannot do, whatever the number of ranks.

    Args:
        recipe: A recipe without errors of form.

    Yields:
        str: A line for each error.
    """
    strategy = recipe.sharding.strategy
    if recipe.precision == "fp16" and recipe.device == "cpu":
        yield "precision: 'fp16' needs a GPU, and the recipe says device: cpu; use precision: bf16"
    if strategy == "fairscale_fsdp" and recipe.device == "cpu":
        yield (
            "sharding.strategy: 'fairscale_fsdp' needs CUDA streams, and the recipe says device: "
            "cpu; use fairscale_sdp, ddp_oss or fsdp2"
        )
    if strategy == "fairscale_fsdp" and recipe.compile:
        yield (
            "compile: layers that FairScale gathers anew in every pass cannot be compiled; use "
            "sharding.strategy=fsdp2, or compile=false"
        )
    if strategy == "fsdp2" and (torch := _torch_before(2, 6)):
        yield (
            f"sharding.strategy: 'fsdp2' needs torch 2.6 or newer, here is {torch}; upgrade torch "
            "or use ddp_oss or fairscale_sdp"
        )


def order_errors(recipe: Recipe) -> Iterator[str]:
    """Find streams of shards that a global batch cannot be dealt from evenly.

    Args:
        recipe: A recipe without errors of form.

    Yields:
        str: A line for each error.
    """
    rows = recipe.data.global_batch
    for name, source in recipe.data.sources.items():
        streams = source.shuffle.streams
        if streams and rows % streams:
            near = [n for n in range(1, min(rows, 4096) + 1) if not rows % n]
            best = min(near, key=lambda n: abs(n - streams))
            yield (
                f"data.sources.{name}.shuffle.streams: {streams} does not divide "
                f"data.global_batch {rows}; take {best}, or null"
            )
        if source.codes and (recipe.data.image.crop or recipe.data.image.flip):
            yield (
                f"data.sources.{name}.codes: are of whole pictures, which data.image.crop and flip "
                "choose parts of; set data.image.crop=null data.image.flip=false, or leave them out"
            )
        if source.shuffle.buckets and source.modality == "image":
            yield (f"data.sources.{name}.shuffle.buckets: pictures have no length; set it to 0")


def evaluation_errors(recipe: Recipe) -> Iterator[str]:
    """Find evaluations that measure nothing, and a metric that none of them gives.

    Args:
        recipe: A recipe without errors of form.

    Yields:
        str: A line for each error.
    """
    section = recipe.evaluate
    if section.every and not section.tasks:
        yield "evaluate.every: there are no evaluate.tasks to run"
    if section.patience is not None and not (section.every and section.metric):
        yield (
            "evaluate.patience: there is nothing to wait for without evaluate.every and "
            "evaluate.metric; set both, or patience=null"
        )
    if section.metric is not None:
        task, _, figure = section.metric.partition(".")
        if task not in section.tasks or not figure:
            known = ", ".join(section.tasks) or "none"
            yield f"evaluate.metric: '{section.metric}' is no task.figure; tasks: {known}"


def hides_patches(recipe: Recipe) -> bool:
    """Say whether the image encoder has a token for hidden patches; one that does not say has one.

    Args:
        recipe: A recipe without errors of form.

    Returns:
        False where no objective can hide patches from it.
    """
    try:
        builder = encoders.get(recipe.model.image_encoder.type)
    except ValueError:
        return True  # an unknown name has its own line
    return bool(getattr(builder, "hides_patches", True))


def _torch_before(major: int, minor: int) -> str | None:
    """The installed torch's version if it is older; torch is not imported, which takes seconds."""
    try:
        found = version("torch")
    except PackageNotFoundError:  # a build without metadata; the strategy will ask torch itself
        return None
    older = tuple(map(int, found.split(".")[:2])) < (major, minor)
    return found if older else None


def _reads(objective: ObjectiveSection) -> frozenset[str]:
    needs: object = getattr(heads.get(objective.head.type), "needs", None)
    reads = objective.head.options.get("reads")
    chosen = frozenset({reads}) if reads in ("image", "text", "fused") else frozenset()
    named = needs if isinstance(needs, frozenset) else frozenset()
    return chosen | {need.partition(".")[0] for need in named}
