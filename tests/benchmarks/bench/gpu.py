"""What a GPU adds: the measured peak of its matrix units, and the share of it that a step uses."""

from __future__ import annotations

from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from flava_plugin.data.collate import split
from tests.benchmarks.bench.batches import Work
from tests.benchmarks.bench.ours import Ours, our_learner
from tests.benchmarks.bench.peers import torchmultimodal_codebook
from tests.benchmarks.bench.rig import our_codebook
from tests.benchmarks.bench.sizes import Size
from tests.benchmarks.bench.stopwatch import Stopwatch

SIDE, MATMULS = 8192, 20
"""Of the square matrices whose product is the measured peak, and how often it is formed."""


def matmul_peak(device: torch.device, side: int = SIDE) -> float:
    """Measure bf16 FLOPs per second of a large matrix product: the median of several."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    watch = Stopwatch("cuda" if device.type == "cuda" else "wall")
    seconds = []
    for _ in range(MATMULS):
        watch.mark()
        torch.mm(a, b)
        watch.mark()
        seconds += watch.take()
    return 2 * side**3 / median(seconds[MATMULS // 4 :])


def useful_flops(size: Size, work: Work, device: torch.device) -> int:
    """Count the FLOPs of one step of ours, forward and backward, without those on padding.

    Every row is counted by itself, cut to its own length, so that no padding is there to count;
    what the rows do with each other (the contrastive logits) is left out. A learner of its own is
    used: not compiled, and with attention made of plain products, which the counter knows on every
    device. Nothing is computed twice, for no layer of it recomputes its activations.
    """
    codebook = our_codebook(torchmultimodal_codebook(size).encoder)
    ours = Ours(our_learner(size, codebook, attention="plain"), device)
    total = 0
    for row in split(work.trimmed, 1):
        with FlopCounterMode(display=False) as counter:
            ours.gradients(Work(work.kind, row, row), "fp32", Stopwatch())
        total += counter.get_total_flops()
    return total
