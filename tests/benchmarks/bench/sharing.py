"""One set of parameters, and one AdamW state, for all implementations of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from tests.benchmarks.bench.implementation import Implementation

Rename = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""``to_torchmultimodal`` or ``to_hugging_face`` of ``flava_plugin.model.weights``."""

CODEBOOK = "image_codebook."
"""Beginning of the names of both peers' codebooks, which have no counterpart in our learner."""


def share_parameters(ours: nn.Module, peer: nn.Module, rename: Rename) -> None:
    """Put our parameters in the place of a peer's.

    Args:
        ours: The learner.
        peer: Its model; its own parameters are dropped, but for the codebook's.
        rename: Our names to the peer's. It may copy: it is asked with the numbers of our parameters
            in the place of their values, and without their memory.

    Raises:
        ValueError: A parameter of the peer's has no counterpart, or another shape.
    """
    own = list(ours.named_parameters())
    numbered = {
        name: torch.tensor(float(number)).expand(parameter.shape)
        for number, (name, parameter) in enumerate(own)
    }
    found = {name: own[int(value.flatten()[0])][1] for name, value in rename(numbered).items()}
    for name, parameter in peer.named_parameters(remove_duplicate=False):
        if name.startswith(CODEBOOK):
            continue
        shared = found.get(name)
        if shared is None:
            raise ValueError(f"{name} of {type(peer).__module__} has no counterpart")
        if shared.shape != parameter.shape:
            raise ValueError(f"{name}: {tuple(parameter.shape)}, ours {tuple(shared.shape)}")
        place, _, leaf = name.rpartition(".")
        peer.get_submodule(place)._parameters[leaf] = shared


def share_codebook(source: nn.Module, target: nn.Module, *, frozen: bool) -> None:
    """Let a codebook compute with another's weights: the same memory, its own ``requires_grad``.

    Args:
        source: A codebook.
        target: One with the same tensors in the same order, whatever they are called.
        frozen: Whether the target's are frozen.
    """
    pairs = zip(source.parameters(), list(target.named_parameters()), strict=True)
    for value, (name, parameter) in pairs:
        assert value.shape == parameter.shape, f"codebook: {name}"
        place, _, leaf = name.rpartition(".")
        shared = nn.Parameter(value.detach(), requires_grad=not frozen)
        target.get_submodule(place)._parameters[leaf] = shared


def share_optimizer_state(implementations: Iterable[Implementation]) -> None:
    """Let all optimisers read and write the first one's moments and step counts.

    On a CPU the default and the fused form keep the same state. On a GPU they keep the step counts
    in different places, so there each form has its own.
    """
    states: dict[bool, dict[Tensor, object]] = {}
    for each in implementations:
        optimizer = each.optimizer
        on_gpu = next(each.model.parameters()).is_cuda
        form = on_gpu and bool(optimizer.param_groups[0]["fused"])
        optimizer.state = states.setdefault(form, optimizer.state)  # type: ignore[assignment]


def stir(model: nn.Module, std: float, seed: int) -> None:
    """Move every parameter but scalars off its initial value: zero biases would prove nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=std)
