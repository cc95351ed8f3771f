"""Memory of one GPU: what a strategy keeps of the state, and a step's peak above it.

State, in bytes for T trainable numbers on N ranks (fp32 parameters, gradients and two AdamW
moments, 4 bytes each; ZeRO, arXiv 1910.02054, section 3, whose stages these are):

- ``none``: parameters 4 T, gradients 4 T, moments 8 T.
- ``ddp``: the same and 4 T of buckets (torch: DistributedDataParallel, gradient_as_bucket_view).
- ``ddp_oss``: moments 8 T / N (FairScale: OSS; ZeRO stage 1).
- ``fairscale_sdp``: moments 8 T / N, gradients 4 T / N once they are reduced, and no buckets
  (FairScale: ShardedDDP with reduce_buffer_size 0; stage 2).
- ``fairscale_fsdp`` and ``fsdp2``: all 16 T / N (stage 3), and while a unit runs its parameters and
  gradients whole, the next unit's parameters being gathered meanwhile. A unit is an encoder layer,
  or whatever else is not one, taken together by part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from flava_plugin.plan.activations import Kept, picture_bytes
from flava_plugin.plan.blueprint import Blueprint, parameters
from flava_plugin.plan.workload import Work
from flava_plugin.sections import ShardingSection
from flava_plugin.sections_data import ImageSection

STRATEGIES: tuple[str, ...] = get_args(ShardingSection.model_fields["strategy"].annotation)

HOST_CONVOLUTIONS = 1.4
"""What convolutions on a CPU take over the tensors alive: oneDNN lays pictures and kernels out anew
inside them. Fitted to one row of ``tests/benchmarks/plan_check.py``: DALL-E's encoder, 8 images."""

REACHES = {
    "image": ("image encoder",),
    "text": ("text encoder",),
    "pair": ("image encoder", "text encoder", "multimodal encoder", "projections"),
}
"""Parts of the backbone that a kind of step trains."""


@dataclass(frozen=True)
class State:
    """What stays on one GPU from step to step, in bytes.

    Attributes:
        parameters: The trainable ones.
        moments: Of AdamW.
        buckets: Of DDP.
        gradients: Bytes kept for each byte of gradient.
        gathered: Of the largest unit while it runs; 0 where nothing is sharded.
        frozen: The codebook.
    """

    parameters: float
    moments: float
    buckets: float
    gradients: float
    gathered: float
    frozen: float

    @property
    def steady(self) -> float:
        """Bytes between steps."""
        return self.parameters + self.moments + self.buckets + self.frozen


def optimiser_ranks(strategy: str, gpus: int) -> int:
    """Tell over how many ranks a strategy splits the optimiser's moments and its work.

    Args:
        strategy: One of ``STRATEGIES``.
        gpus: Ranks N.

    Returns:
        N, or 1 where every rank updates everything.
    """
    return 1 if strategy in ("none", "ddp") else gpus


def state_of(blueprint: Blueprint, strategy: str, gpus: int) -> State:
    """Work out what a strategy keeps.

    Args:
        blueprint: The model.
        strategy: One of ``STRATEGIES``.
        gpus: Ranks N.

    Returns:
        Bytes of one GPU.
    """
    whole = 4.0 * sum(parameters(blueprint).values())
    frozen = 4.0 * blueprint.codebook.parameters if blueprint.codebook else 0.0
    buckets = whole if strategy in ("ddp", "ddp_oss") and gpus > 1 else 0.0
    moments = 2 * whole / optimiser_ranks(strategy, gpus)
    if strategy in ("fairscale_fsdp", "fsdp2"):
        unit = 4.0 * largest_unit(blueprint)
        return State(whole / gpus, moments, 0.0, 1 / gpus, 3 * unit, frozen)
    kept = 1 / gpus if strategy == "fairscale_sdp" else 1.0
    return State(whole, moments, buckets, kept, 0.0, frozen)


def largest_unit(blueprint: Blueprint) -> int:
    """Find the unit that FSDP gathers at most.

    Args:
        blueprint: The model.

    Returns:
        Its parameters.
    """
    sizes = [0]
    for part, count in parameters(blueprint).items():
        stack = blueprint.stacks.get(part)
        layer = 0
        if stack is not None:
            layer = stack.layer_numbers
            count -= stack.layers * layer
        sizes += [layer, count]
    return max(sizes)


@dataclass(frozen=True)
class Peak:
    """The most bytes of one GPU in a kind of step.

    Attributes:
        kind: Of step.
        activations: Kept by the forward of one micro-batch.
        gradients: Of the parameters this kind trains.
        batch: The micro-batch as it comes.
        above: The most that stands at once above the steady state.
    """

    kind: str
    activations: float
    gradients: float
    batch: float
    above: float


def peak_of(
    blueprint: Blueprint,
    work: Work,
    kept: list[Kept],
    state: State,
    image: ImageSection,
    *,
    on_host: bool,
) -> Peak:
    """Follow a step: codes, then forward, then backward part by part, then the optimiser.

    Args:
        blueprint: The model.
        work: The step.
        kept: Of ``activations.kept_by_step``.
        state: Of ``state_of``.
        image: The recipe's ``data.image``.
        on_host: Whether all micro-batches of the step lie in the same memory (CPU).

    Returns:
        The peak.
    """
    counts = parameters(blueprint)
    reached = {part: 4.0 * counts.get(part, 0) for part in REACHES[work.kind]}
    for name in blueprint.learner.objectives_of(work.kind):
        reached[f"head {name}"] = 4.0 * counts.get(f"head {name}", 0)
    gradients = sum(reached.values()) * state.gradients
    batch = batch_bytes(blueprint, work, image)
    batches = batch * (work.micro_batches if on_host else 1)
    # Pictures come in 8 bits and are floats while a micro-batch's forward runs; what the backward
    # needs of them is among the activations.
    floats = batch_bytes(blueprint, work, image, scaled=True)

    # Gradients of earlier micro-batches are there from the start.
    stands = gradients if work.micro_batches > 1 else 0.0
    activations = sum(part.bytes for part in kept)
    moments = [
        floats + _coding(blueprint, work, on_host=on_host) + stands,
        floats + activations + stands,
    ]
    left, made = activations, stands
    for part in kept:
        moments.append(left + made + part.moment + part.working)
        left -= part.bytes
        if work.micro_batches == 1:
            made += state.gradients * reached.get(part.part, 0.0)
            moments.append(left + made)
    moments.append(gradients)
    above = batches + max(moments) + state.gathered
    return Peak(work.kind, activations, gradients, batch, above)


def batch_bytes(
    blueprint: Blueprint, work: Work, image: ImageSection, *, scaled: bool = False
) -> float:
    """Bytes of a micro-batch.

    Args:
        blueprint: The model.
        work: The step.
        image: The recipe's ``data.image``.
        scaled: Whether as floats, as the step computes with it, or as it comes.

    Returns:
        Pictures for encoder and codebook (fp32, or uint8), and as it comes also ids and labels
        (int64) and masks, which stay as they are.
    """
    if work.kind == "text":
        pictures = 0.0
    else:
        pictures = picture_bytes(blueprint, work)
        if work.coded_rows:
            pictures += 4.0 * work.rows * 3 * image.codebook_size**2
    if scaled:
        return pictures
    masks = work.rows * blueprint.patches if pictures else 0
    return pictures / 4 + masks + work.rows * work.tokens * (3 * 8 + 1)


def _coding(blueprint: Blueprint, work: Work, *, on_host: bool) -> float:
    """The codebook's working set, which is gone before the encoders run."""
    if blueprint.codebook is None or not work.coded_rows:
        return 0.0
    live = blueprint.codebook.base_bytes + blueprint.codebook.peak_bytes * work.coded_rows
    return live * (HOST_CONVOLUTIONS if on_host and blueprint.codebook.convolves else 1.0)
