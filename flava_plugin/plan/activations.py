"""Bytes that autograd keeps for the backward pass of one micro-batch, by part.

Derived from the layer in ``model/attention.py`` and held by the tests against a count of the
tensors that torch really saves (``torch.autograd.graph.saved_tensors_hooks``).

Legend for shapes: B rows, S positions, q positions read, D width, M width of the MLP, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flava_plugin.plan.blueprint import Blueprint, Stack
from flava_plugin.plan.workload import HeadWork, Pass, Work

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Numbers:
    """How a forward pass computes.

    Attributes:
        precision: Of linear layers; norms and the residual stream stay in fp32.
        fused: Whether attention is fused and keeps no weights (``attention_kernels.py``: all but
            bf16 on a CPU).
    """

    precision: Precision
    fused: bool

    @property
    def linear(self) -> int:
        """Bytes of a number that a linear layer gives."""
        return 2 if self.precision != "fp32" else 4


def numbers_of(precision: Precision, device: str) -> Numbers:
    """Choose as ``attention_kernels.attend`` does.

    Args:
        precision: The recipe's.
        device: A key of ``devices.DEVICES``.

    Returns:
        How it computes.
    """
    return Numbers(precision, fused=not (device == "cpu" and precision != "fp32"))


def layer_bytes(stack: Stack, numbers: Numbers, positions: float, read: float) -> float:
    """What one layer keeps of one row.

    Of all S positions: the input (fp32), its norm as the linear layers take it, keys and values.
    Of the q that are read: query, attention's output, the sum with the input (fp32), its norm, the
    MLP before and after its activation. Norms keep mean and deviation. Fused attention keeps a
    number for each query and head, plain attention its weights and a copy of the output.

    Args:
        stack: Widths.
        numbers: How it computes.
        positions: S.
        read: q.

    Returns:
        Bytes.
    """
    width, size, partial = stack.width, numbers.linear, read < positions
    everywhere = positions * (4 * width + size * 3 * width + 8)
    where_read = read * (4 * width + size * (3 * width + stack.hidden * stack.mlp) + 8)
    if partial:  # the norm of the positions that ask, picked out for the query
        where_read += read * size * width
    if numbers.fused:
        attention = 4.0 * read * stack.heads
    else:
        attention = float(size) * read * positions * stack.heads
    return everywhere + where_read + attention


def stack_bytes(
    stack: Stack, numbers: Numbers, each: Pass, recompute_every: int
) -> tuple[float, float]:
    """What an encoder's layers keep of one row.

    Args:
        stack: The layers.
        numbers: How they compute.
        each: The pass.
        recompute_every: Every such layer keeps its input alone; 0 for none.

    Returns:
        Bytes kept, and bytes that the largest recomputed layer adds for a moment.
    """
    kept = moment = 0.0
    for number in range(1, stack.layers + 1):
        read = each.read if number == stack.layers else each.positions
        whole = layer_bytes(stack, numbers, each.positions, read)
        if recompute_every and number % recompute_every == 0:
            own = 4.0 * each.positions * stack.width
            kept, moment = kept + own, max(moment, whole - own)
        else:
            kept += whole
    # the final norm keeps the last layer's output
    return kept + each.read * (4 * stack.width + 8), moment


@dataclass(frozen=True)
class Kept:
    """What one part keeps for the backward pass of a micro-batch.

    Attributes:
        part: Its name.
        bytes: Kept until its backward has run.
        moment: Added for a moment by recomputation.
        working: Gradients of activations alive while its backward runs.
    """

    part: str
    bytes: float
    moment: float = 0.0
    working: float = 0.0


def kept_by_step(
    blueprint: Blueprint, work: Work, numbers: Numbers, recompute_every: int
) -> list[Kept]:
    """List what a micro-batch's forward keeps, in the order the backward frees it.

    Args:
        blueprint: The model.
        work: The step.
        numbers: How it computes.
        recompute_every: See ``stack_bytes``.

    Returns:
        Heads and losses first, then the encoders.
    """
    kept = [_head(head, numbers) for head in work.heads if head.vocabulary]
    if work.compares and work.micro_batches == 1:
        kept.append(Kept("contrastive", *_contrastive(work)))
    order = ("multimodal encoder", "text encoder", "image encoder")
    for part in order:
        passes = [each for each in work.passes if each.part == part]
        if passes:
            kept.append(_encoder(blueprint, work, numbers, recompute_every, passes))
    return kept


def _head(head: HeadWork, numbers: Numbers) -> Kept:
    """Hidden states, three more in the transform, and the logits' log-softmax (fp32)."""
    decoded = min(head.positions, float(head.chunk))
    chunked = head.positions > head.chunk
    hidden = head.positions * head.width * (4 if chunked else numbers.linear)
    transform = decoded * (head.width * (4 + 2 * numbers.linear) + 8)
    if numbers.precision != "fp32":
        transform += 2.0 * head.matrices
    logits = 4.0 * decoded * head.vocabulary
    # backward: the gradient of the log-softmax, of the logits and, in bf16, its cast
    working = 2 * logits
    if chunked:
        return Kept(f"head {head.objective}", hidden, transform + logits, working)
    return Kept(f"head {head.objective}", hidden + transform + logits, 0.0, working)


def _contrastive(work: Work) -> tuple[float, float, float]:
    """Two directions of (B, G): similarities and log-softmax are kept, two gradients come."""
    block = 4.0 * work.rows * work.counted * work.global_rows * work.compares
    return 4 * block, 0.0, 2 * block


def _encoder(
    blueprint: Blueprint, work: Work, numbers: Numbers, recompute_every: int, passes: list[Pass]
) -> Kept:
    stack = blueprint.stacks[passes[0].part]
    kept = moment = working = 0.0
    for each in passes:
        own, again = stack_bytes(stack, numbers, each, recompute_every)
        kept, moment = kept + own * work.rows, moment + again * work.rows
        # Of the MLP's hidden layer and of the residual stream. A last layer that is read in part
        # needs less, and has freed its activations, and has gradients of its own, by the time the
        # layer before needs all.
        gradients = float(numbers.linear * stack.mlp)
        if not recompute_every:
            gradients += 2 * 4 * stack.width
        whole = work.rows * each.positions * gradients
        if each.read < each.positions and not recompute_every:
            freed = work.rows * layer_bytes(stack, numbers, each.positions, each.read)
            made = 4.0 * stack.layer_numbers if work.micro_batches == 1 else 0.0
            whole = max(work.rows * each.read * gradients, whole - freed + made)
        working += whole
        if stack.norms_input:
            kept += work.rows * each.positions * (4 * stack.width + 8)
    joined = len(passes) > 1 and not stack.dropout
    images = passes[0].part == "image encoder"
    if joined:
        again = bool(recompute_every) and stack.layers % recompute_every == 0
        kept += sum(_joined(blueprint, work, numbers, each, again) for each in passes)
    elif passes[0].view == "fused" and work.counted < 1 and passes[0].read < passes[0].positions:
        # rows read a different number of positions: queries and outputs stand as rows as well
        kept += 2.0 * work.rows * passes[0].read / work.counted * stack.width * numbers.linear
    if numbers.precision != "fp32":  # casts are kept: of each weight once, of the pictures
        layer = 4 * stack.width**2 + 2 * stack.width * stack.mlp
        kept += 2.0 * stack.layers * layer
        if images:
            kept += len(passes) * picture_bytes(blueprint, work) / 2
    elif images:  # the pictures themselves, or clean and masked ones side by side
        kept += (len(passes) if joined else 1) * picture_bytes(blueprint, work)
    return Kept(passes[0].part, kept, moment, working)


def _joined(
    blueprint: Blueprint, work: Work, numbers: Numbers, each: Pass, last_again: bool
) -> float:
    """What a pass keeps more because clean and masked rows run together, though read differently.

    All rows stand at full length: the last layer's queries and attention outputs, its output
    (for the multimodal encoder) and its norm (for the contrastive projection).
    """
    rows = work.rows * blueprint.stacks[each.part].width
    queries = 0.0 if last_again else (2 * each.positions - each.read) * numbers.linear
    outputs = 4.0 * each.positions  # its [CLS] is a view, which keeps the whole norm
    fused = any(other.view == "fused" for other in work.passes)
    if fused and numbers.precision == "fp32":
        outputs += 4.0 * each.positions
    elif fused and each.view.endswith("_masked"):
        outputs += 2.0 * each.positions  # a cast of the masked rows alone
    return rows * (queries + outputs)


def picture_bytes(blueprint: Blueprint, work: Work) -> float:
    """Bytes of a micro-batch's images as the encoder takes them.

    Args:
        blueprint: Patches and their size.
        work: The step.

    Returns:
        Bytes, fp32.
    """
    patch = int(blueprint.learner.backbone.image_encoder.patch_size)  # type: ignore[arg-type]
    return 4.0 * work.rows * 3 * blueprint.patches * patch**2
