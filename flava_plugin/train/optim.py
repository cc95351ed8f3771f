"""AdamW: which parameters decay, the learning rate of each step, the bound of the logit scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from flava_plugin.sections import OptimSection

TOKENS = ("cls_token", "mask_token")
"""Parameters with three dimensions that are no matrices: one learnt vector each."""

LOGIT_SCALE = "logit_scale"
"""Last part of the name of every parameter that ``clamp_logit_scale`` bounds."""


def parameter_groups(
    parameters: Iterable[tuple[str, int, nn.Parameter]],
    weight_decay: float,
    rates: Mapping[str, float] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Split the trainable parameters into those that decay and those that do not.

    Matrices, convolutions and embeddings (word, patch and position) decay. Parameters with fewer
    than two dimensions (biases, norms, the logit scale) and class and mask tokens do not. Frozen
    parameters are in no group.

    Args:
        parameters: Name, number of dimensions of the whole parameter, and what is updated of it.
        weight_decay: Of the first group.
        rates: By name the factor of the learning rate, where it is not 1 (``layer_rates.py``).

    Returns:
        Two parameter groups for an optimiser by factor, which is ``lr_scale`` in them; one that
        would be empty is left out.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, dimensions, parameter in parameters:
        if parameter.requires_grad:
            decays = dimensions >= 2 and name.rpartition(".")[2] not in TOKENS
            groups.setdefault((rates.get(name, 1.0), decays), []).append(parameter)
    return [
        {"params": own, "weight_decay": weight_decay if decays else 0.0, "lr_scale": rate}
        for (rate, decays), own in groups.items()
        if own
    ]


def adamw(
    parameters: Sequence[tuple[str, int, nn.Parameter]],
    section: OptimSection,
    build: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    *,
    rates: Mapping[str, float] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """Build AdamW over the trainable parameters, in its fused form where torch has one.

    Args:
        parameters: As for ``parameter_groups``.
        section: The recipe's ``optim``.
        build: Takes the groups and AdamW's options; for an optimiser that wraps AdamW.
        rates: As for ``parameter_groups``.

    Returns:
        The optimiser; a parameter whose ``grad`` is None stays untouched by a step.

    Raises:
        ValueError: The learner has no trainable parameter.
    """
    groups = parameter_groups(parameters, section.weight_decay, rates)
    if not groups:
        raise ValueError("the learner has no trainable parameter; unfreeze one or add a head")
    options: dict[str, Any] = {"lr": section.lr, "betas": section.betas, "eps": section.eps}
    on_cpu = any(parameter.device.type == "cpu" for _, _, parameter in parameters)
    # Before torch 2.4 the CPU has no fused form, which only the first step would say.
    fused = not on_cpu or tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)
    return build(groups, fused=fused, **options)


def lr_at(step: int, section: OptimSection, total_steps: int) -> float:
    """Learning rate of a step: linear warm-up to ``lr``, then half a cosine to its final share.

    Args:
        step: Optimiser steps done before, from 0.
        section: The recipe's ``optim``.
        total_steps: Steps of the whole run.

    Returns:
        The rate; the first step's is above 0, step ``warmup_steps`` has the peak, and step
        ``total_steps``, which is never made, has the final share.
    """
    if step < section.warmup_steps:
        return section.lr * (step + 1) / (section.warmup_steps + 1)
    progress = min(1.0, (step - section.warmup_steps) / max(1, total_steps - section.warmup_steps))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return section.lr * (section.final_share + (1.0 - section.final_share) * cosine)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the learning rate, times its own factor.

    Args:
        optimizer: Whose groups.
        lr: The rate of the next step.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


@torch.no_grad()
def clamp_logit_scale(parameters: Iterable[tuple[str, Tensor]], largest: float) -> None:
    """Keep every logit scale within 0 and a bound, after the optimiser's step.

    A clamp inside the forward pass would be lost on a sharded parameter.

    Args:
        parameters: What this rank updates, by name; those named ``logit_scale`` are changed.
        largest: The bound (torchmultimodal: ln 100; its lower bound is ln 1).
    """
    for name, parameter in parameters:
        if name.rpartition(".")[2] == LOGIT_SCALE:
            parameter.clamp_(0.0, largest)
