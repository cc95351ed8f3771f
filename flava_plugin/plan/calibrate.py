"""How fast this machine's CPU is at the recipe's shapes: a few seconds of its own layers.

A layer is timed forward and backward as it is, with norms, GELU and softmax, so that its rate
stands for the whole encoder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin.model.attention import EncoderStack
from flava_plugin.model.parts import seeded
from flava_plugin.plan.blueprint import Blueprint, Stack
from flava_plugin.plan.flops import layer_flops
from flava_plugin.plan.workload import HeadWork, Work
from flava_plugin.recipe import Recipe

BUDGET = 4e9
"""Forward FLOPs of one timing: a tenth of a second or so on one core."""

REPEATS = 3
TENSORS = 50
ELEMENTS = 8_000_000
"""Numbers in each of the four tensors AdamW is timed on: more than caches hold."""


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        layers: Executed FLOP/s of forward and backward, by kind of step and part.
        heads: The same of a masked head's decoder with its loss.
        adamw: Seconds of the optimiser for each parameter.
        tensor: Seconds of the optimiser for each tensor, however small.
        calls: Seconds of a layer on next to nothing: what starting its operations costs. An
            embedding, a head or a loss starts about as many.
        codebook: Seconds of one image; 0 where there is nothing to time.
        seconds: How long measuring took.
    """

    layers: dict[tuple[str, str], float]
    heads: float
    adamw: float
    tensor: float
    calls: float
    codebook: float
    seconds: float


def calibrate(recipe: Recipe, blueprint: Blueprint, works: list[Work]) -> Rates:
    """Time layers, a decoder, the optimiser and the codebook.

    Args:
        recipe: Gives threads, precision and the size of pictures.
        blueprint: The model.
        works: The steps.

    Returns:
        The rates.
    """
    started, threads = time.perf_counter(), torch.get_num_threads()
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    try:
        layers: dict[tuple[str, str], float] = {}
        for work in works:
            for part in {each.part: None for each in work.passes}:
                views = [each for each in work.passes if each.part == part]
                positions = int(views[0].positions)
                stack = blueprint.stacks[part]
                rows = _affordable(work.rows * len(views), layer_flops(stack, positions, positions))
                layers[work.kind, part] = _layer_rate(stack, rows, positions, recipe.precision)
        heads = max((w.heads for w in works), key=lambda hs: sum(h.vocabulary for h in hs))
        decoder = _decoder_rate(heads, recipe.precision)
        codebook = _codebook_seconds(recipe, blueprint)
        adamw = _adamw_seconds(ELEMENTS, 1) / ELEMENTS
        tensor = _adamw_seconds(64, TENSORS) / TENSORS
        small = Stack(1, 8, 1, 8, 0.0)
        calls = 3 * layer_flops(small, 4, 4) / _layer_rate(small, 1, 4, recipe.precision)
    finally:
        torch.set_num_threads(threads)
    return Rates(layers, decoder, adamw, tensor, calls, codebook, time.perf_counter() - started)


def clock() -> float:
    """Read the clock: of one thread its own time, which other work on the machine does not touch.

    Returns:
        Seconds.
    """
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def best_of(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Time something, its first run left out.

    Args:
        run: What to time.
        repeats: How often.

    Returns:
        Seconds of the fastest run.
    """
    run()
    found = math.inf
    for _ in range(repeats):
        started = clock()
        run()
        found = min(found, clock() - started)
    return max(found, 1e-9)


def _affordable(rows: int, flops: float) -> int:
    return max(1, min(rows, int(BUDGET / flops)))


def _layer_rate(stack: Stack, rows: int, positions: int, precision: str) -> float:
    generator = torch.Generator().manual_seed(0)
    with seeded(0, "calibrate"):
        layers = EncoderStack(1, stack.width, stack.heads, stack.mlp, stack.dropout)
    x = torch.randn(rows, positions, stack.width, generator=generator).requires_grad_()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def run() -> None:
        with autocast:
            out = layers(x).values
        torch.autograd.backward(out.float().sum())

    return 3 * rows * layer_flops(stack, positions, positions) / best_of(run)


def _decoder_rate(heads: tuple[HeadWork, ...], precision: str) -> float:
    masked = [head for head in heads if head.vocabulary]
    if not masked:
        return math.inf
    head = max(masked, key=lambda h: h.matrices)
    width, words = head.width, head.vocabulary
    count = _affordable(max(1, int(min(head.positions, head.chunk))), 2.0 * width * words)
    generator = torch.Generator().manual_seed(0)
    with seeded(0, "calibrate"):
        decoder = nn.Linear(width, words)
    x: Tensor = torch.randn(count, width, generator=generator).requires_grad_()
    labels = torch.zeros(count, dtype=torch.long)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def run() -> None:
        with autocast:
            logits = decoder(x)
        torch.autograd.backward(F.cross_entropy(logits.float(), labels))

    return float(6 * count * width * words / best_of(run))


def _adamw_seconds(numbers: int, tensors: int) -> float:
    parameters = [nn.Parameter(torch.zeros(numbers)) for _ in range(tensors)]
    for parameter in parameters:
        parameter.grad = torch.ones(numbers)
    try:
        optimizer = torch.optim.AdamW(parameters, fused=True)
        optimizer.step()
    except RuntimeError:  # before torch 2.4 there is no fused form on a CPU
        optimizer = torch.optim.AdamW(parameters)

    def run() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return best_of(run)


def _codebook_seconds(recipe: Recipe, blueprint: Blueprint) -> float:
    """Of one image; where the file is missing, from the rate of a convolution of DALL-E's shape."""
    cost = blueprint.codebook
    if cost is None:
        return 0.0
    size = recipe.data.image.codebook_size
    if cost.module is None:
        weight, picture = torch.zeros(128, 128, 3, 3), torch.zeros(1, 128, size // 2, size // 2)
        flops = 2.0 * 128 * 128 * 9 * (size // 2) ** 2
        with torch.no_grad():
            return cost.flops * best_of(lambda: F.conv2d(picture, weight, padding=1)) / flops
    module, mask = cost.module, torch.arange(blueprint.patches)[None]
    wanted = mask < recipe.data.masking.patch_count
    rows = max(1, min(8, int(BUDGET / max(cost.flops, 1.0))))
    grey = sum(recipe.data.image.codebook_range) / 2
    pictures = torch.full((rows, 3, size, size), grey)
    with torch.no_grad():
        if cost.selective:
            chosen = wanted.expand(rows, -1)
            return best_of(lambda: module.codes_at(pictures, chosen), 1) / rows  # type: ignore[operator]
        return best_of(lambda: module(pictures), 1) / rows
