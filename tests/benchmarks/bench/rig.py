"""All implementations in one process, over one set of parameters; or one of them alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import nn
from torchmultimodal.models.flava.model import FLAVAForPreTraining

from flava_plugin import registry
from flava_plugin.model.weights import to_hugging_face, to_torchmultimodal
from tests.benchmarks.bench.implementation import Implementation
from tests.benchmarks.bench.ours import STD, Ours, Padding, our_learner
from tests.benchmarks.bench.peers import (
    HuggingFace,
    TorchMultimodal,
    hugging_face_model,
    torchmultimodal_codebook,
    torchmultimodal_model,
)
from tests.benchmarks.bench.sharing import (
    share_codebook,
    share_optimizer_state,
    share_parameters,
    stir,
)
from tests.benchmarks.bench.sizes import Size

Module = TypeVar("Module", bound=nn.Module)

AS_THEY_COME = ("torchmultimodal", "hugging_face")
BEST = ("torchmultimodal_best", "hugging_face_best")
OURS = "ours"
RELEASED = "ours_released"
"""With torchmultimodal's reading of padding: its multimodal encoder attends to it."""

NAMES = (*AS_THEY_COME, *BEST, OURS, RELEASED)


def build_rig(
    size: Size,
    device: torch.device,
    names: Sequence[str] = NAMES,
    *,
    seed: int = 0,
    compiled: bool = False,
) -> dict[str, Implementation]:
    """Build implementations over one set of parameters, and one codebook for the peers.

    Ours has a copy of the codebook, for it lays the weights out in another order, in place.

    Args:
        size: Of the models.
        device: Where they run.
        names: Which of ``NAMES``, in the order wanted.
        seed: Of the weights.
        compiled: Whether ours is compiled.
    """
    theirs = _seeded(lambda: torchmultimodal_model(size), seed).to(device)
    codebook = our_codebook(theirs.image_codebook.encoder)
    learner = our_learner(size, codebook, seed=seed)
    stir(learner, STD, seed)
    released = our_learner(size, codebook, padding="released").to(device)
    share_parameters(learner.to(device), released, dict)
    share_parameters(learner, theirs, to_torchmultimodal)
    found: dict[str, Implementation] = {
        OURS: Ours(learner, device, compiled=compiled),
        RELEASED: Ours(released, device, compiled=compiled),
    }
    found["torchmultimodal"] = TorchMultimodal(theirs, best=False)
    found["torchmultimodal_best"] = TorchMultimodal(_frozen(theirs), best=True)
    if any(name.startswith("hugging_face") for name in names):
        other = hugging_face_model(size).to(device)
        share_parameters(learner, other, to_hugging_face)
        share_codebook(theirs.image_codebook, other.image_codebook, frozen=True)
        found["hugging_face"] = HuggingFace(other, best=False)
        found["hugging_face_best"] = HuggingFace(other, best=True)
    chosen = {name: found[name] for name in names}
    share_optimizer_state(found.values())
    return chosen


def build_alone(
    name: str, size: Size, device: torch.device, *, seed: int = 0, compiled: bool = False
) -> Implementation:
    """Build one implementation with parameters of its own and nothing beside it.

    Args:
        name: One of ``NAMES``.
        size: Of the model.
        device: Where it runs.
        seed: Of the weights.
        compiled: Whether ours is compiled.
    """
    best = name in BEST
    if name.startswith("hugging_face"):
        return HuggingFace(_seeded(lambda: hugging_face_model(size), seed).to(device), best=best)
    if name.startswith("torchmultimodal"):
        theirs = _seeded(lambda: torchmultimodal_model(size), seed).to(device)
        if best:
            theirs.image_codebook.requires_grad_(False)
        return TorchMultimodal(theirs, best=best)
    codebook = our_codebook(_seeded(lambda: torchmultimodal_codebook(size), seed).encoder)
    padding: Padding = "released" if name == RELEASED else "masked"
    return Ours(our_learner(size, codebook, padding=padding), device, compiled=compiled)


def our_codebook(encoder: nn.Module) -> nn.Module:
    """Our ``dalle_dvae`` with a copy of torchmultimodal's weights, through a file as in a run."""
    state = {name: value.detach().cpu() for name, value in encoder.state_dict().items()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "codebook.safetensors"
        save_file(state, path)
        codebook: nn.Module = registry.codebooks.build("dalle_dvae", path=str(path))
    return codebook


def _frozen(model: FLAVAForPreTraining) -> FLAVAForPreTraining:
    """The same modules around a frozen codebook over the same memory."""
    codebook = copy.deepcopy(model.image_codebook)
    share_codebook(model.image_codebook, codebook, frozen=True)
    return FLAVAForPreTraining(model.model, codebook, model.loss)


def _seeded(build: Callable[[], Module], seed: int) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()
