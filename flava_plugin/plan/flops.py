"""FLOPs of a step by part: matrix products and convolutions, without padding.

Two for each multiplication and addition, as torch's ``FlopCounterMode`` counts them, against which
the tests hold these formulas. The backward pass of a product is two products of its size; only the
patch embedding needs one, since no image has a gradient. Fused attention computes its scores once
more in the backward pass, which is not counted, as in MFU (PaLM, arXiv 2204.02311, appendix B).

Legend for shapes: S positions of a row, q those whose output is read, D width, M width of the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flava_plugin.plan.blueprint import ENCODERS, Blueprint, Stack
from flava_plugin.plan.workload import Pass, Work


@dataclass(frozen=True)
class Flops:
    """FLOPs of one step on one GPU.

    Attributes:
        forward: With gradients.
        backward: Without recomputation.
        again: Forward once more: the first pass of the cached contrastive loss, layers and logits
            that are computed anew in the backward pass.
    """

    forward: float = 0.0
    backward: float = 0.0
    again: float = 0.0

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            self.forward + other.forward, self.backward + other.backward, self.again + other.again
        )

    def times(self, factor: float) -> Flops:
        """Multiply all.

        Args:
            factor: Such as a number of micro-batches.

        Returns:
            The product.
        """
        return Flops(self.forward * factor, self.backward * factor, self.again * factor)

    @property
    def useful(self) -> float:
        """The numerator of MFU: forward and backward, nothing twice."""
        return self.forward + self.backward

    @property
    def executed(self) -> float:
        """All of it."""
        return self.forward + self.backward + self.again


def layer_flops(stack: Stack, positions: float, read: float) -> float:
    """Forward of one layer over one row: keys and values everywhere, the rest where it is read.

    Args:
        stack: Widths.
        positions: S.
        read: q.

    Returns:
        FLOPs.
    """
    width, mlp = stack.width, stack.mlp
    keys_and_values = 4 * positions * width**2
    query_and_output = 4 * read * width**2
    attention = 4 * read * positions * width
    return keys_and_values + query_and_output + attention + 4 * read * width * mlp


def step_flops(blueprint: Blueprint, work: Work, recompute_every: int) -> dict[str, Flops]:
    """Count a step's FLOPs by part.

    Args:
        blueprint: The model.
        work: The step.
        recompute_every: Every such layer is computed anew in the backward pass; 0 for none.

    Returns:
        FLOPs of all micro-batches on one GPU: encoders, projections, heads, contrastive, codebook.
    """
    parts: dict[str, Flops] = dict.fromkeys(ENCODERS, Flops())
    for each in work.passes:
        parts[each.part] += _pass(blueprint, each, recompute_every).times(work.rows)
    for each in work.first_pass:
        once = _pass(blueprint, each, 0).forward * work.rows
        parts[each.part] += Flops(again=once)
    parts["projections"] = _projections(blueprint, work).times(work.rows)
    for head in work.heads:
        forward = 2.0 * head.matrices * head.positions
        again = forward if head.vocabulary and head.positions > head.chunk else 0.0
        if forward:
            parts[f"head {head.objective}"] = Flops(forward, 2 * forward, again)
    if work.compares:
        width = blueprint.learner.backbone.image_projection.out_features
        forward = 4.0 * work.rows * work.counted * work.global_rows * width * work.compares
        parts["contrastive"] = Flops(forward, 2 * forward)
    if blueprint.codebook is not None and work.coded_rows:
        parts["codebook"] = Flops(work.coded_rows * blueprint.codebook.flops)
    return {part: f.times(work.micro_batches) for part, f in parts.items() if f.executed}


def total(parts: Sequence[Flops]) -> Flops:
    """Add up.

    Args:
        parts: Of a step.

    Returns:
        The sum.
    """
    return sum(parts, Flops())


def _pass(blueprint: Blueprint, each: Pass, recompute_every: int) -> Flops:
    stack = blueprint.stacks[each.part]
    layer = layer_flops(stack, each.positions, each.positions)
    last = layer_flops(stack, each.positions, each.read)
    forward = (stack.layers - 1) * layer + last
    again = 0.0
    if recompute_every:
        # torch stops once it has what the backward needs: not the layer's last product
        spared = 2 * stack.width * stack.mlp
        for number in range(recompute_every, stack.layers + 1, recompute_every):
            is_last = number == stack.layers
            again += last - spared * each.read if is_last else layer - spared * each.positions
    backward = 2 * forward
    if each.part == "image encoder":
        pixels = 3 * int(blueprint.learner.backbone.image_encoder.patch_size) ** 2  # type: ignore[arg-type]
        embedding = 2.0 * blueprint.patches * pixels * stack.width
        forward, backward = forward + embedding, backward + embedding
    return Flops(forward, backward, again)


def _projections(blueprint: Blueprint, work: Work) -> Flops:
    """Of one row: into the multimodal encoder at all positions, into the contrastive space once."""
    backbone = blueprint.learner.backbone
    forward = again = 0.0
    if any(each.view == "fused" for each in work.passes):
        for layer, positions in (
            (backbone.image_to_mm_projection, 1 + blueprint.patches),
            (backbone.text_to_mm_projection, work.tokens),
        ):
            forward += 2.0 * positions * layer.weight.numel()
    for side in work.projected:
        forward += 2.0 * getattr(backbone, f"{side}_projection").weight.numel()
        if work.first_pass:
            again += 2.0 * getattr(backbone, f"{side}_projection").weight.numel()
    return Flops(forward, 2 * forward, again)
