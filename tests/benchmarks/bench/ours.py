"""Our training step, as ``flava train`` makes it: learner, ``train_step``, fused AdamW.

Left out: measuring the gradients' norm, which no peer does. Kept in: the bound of the logit scale,
which both peers apply inside their forward.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from flava_plugin import registry
from flava_plugin.model.attention_kernels import Kernel
from flava_plugin.model.execution import compile_layers
from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.sections import ModelSection, ObjectiveSection, OptimSection
from flava_plugin.train.optim import clamp_logit_scale
from flava_plugin.train.sharding.replicated import Replicated
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from tests.benchmarks.bench.batches import Work
from tests.benchmarks.bench.implementation import LR, Precision
from tests.benchmarks.bench.sizes import NORM_EPS, WORDS, Size
from tests.benchmarks.bench.stopwatch import Stopwatch

Padding = Literal["masked", "released"]

CODEBOOK = "bench_codebook"
STD = 0.02
"""Of the initial weights: torchmultimodal's and Hugging Face's."""


def model_section(size: Size, padding: Padding = "masked") -> ModelSection:
    """The recipe's ``model`` of a size."""
    image, text, fused = (
        {"layers": layers, "width": size.width, "heads": size.heads} for layers in size.layers
    )
    pictures = {"image_size": size.image, "patch_size": size.patch}
    return ModelSection.model_validate(
        {
            "image_encoder": {"type": "flava_image", **pictures, **image},
            "text_encoder": {"type": "flava_text", "max_positions": 512, **text},
            "fused_encoder": {"type": "flava_fused", **fused},
            "codebook": {"type": CODEBOOK},
            "projection": size.width,
            "padding": padding,
            "init_std": STD,
            "position_std": STD,
        }
    )


def objective_sections() -> dict[str, ObjectiveSection]:
    """The six of ``pretrain/flava_base``."""

    def masked(target: str, reads: str, modality: str) -> dict[str, Any]:
        head = {"words": "word_tokens", "patches": "patch_tokens"}[target]
        return {
            "modality": modality,
            "head": {"type": head, "reads": reads, "norm_eps": NORM_EPS},
            "loss": {"type": "masked_ce", "target": target},
        }

    pair = {"modality": "pair"}
    sections = {
        "mim": masked("patches", "image", "image"),
        "mlm": masked("words", "text", "text"),
        "mmm_image": masked("patches", "fused", "pair"),
        "mmm_text": masked("words", "fused", "pair"),
        "itm": pair | {"head": {"type": "pair_match"}, "loss": {"type": "matching_ce"}},
        "contrastive": pair
        | {"head": {"type": "projections"}, "loss": {"type": "global_contrastive"}},
    }
    return {name: ObjectiveSection.model_validate(section) for name, section in sections.items()}


def our_learner(
    size: Size,
    codebook: nn.Module,
    *,
    seed: int = 0,
    padding: Padding = "masked",
    attention: Kernel = "auto",
) -> Learner:
    """Build a learner of a size around a codebook."""
    registry.codebooks.register(CODEBOOK)(lambda: codebook)
    try:
        return build_learner(
            model_section(size, padding),
            objective_sections(),
            words=WORDS,
            image_size=size.image,
            seed=seed,
            attention=attention,
        )
    finally:
        registry.codebooks._decorated.pop(CODEBOOK)


class Marked(Replicated):
    """A strategy that marks the beginning and the end of its backward pass."""

    watch: Stopwatch | None = None

    def backward(self, loss: Tensor) -> None:
        assert self.watch is not None
        self.watch.mark()
        super().backward(loss)
        self.watch.mark()


class Ours:
    """Our training step.

    Args:
        learner: Of ``our_learner``; moved to the device.
        device: Where it runs.
        compiled: Whether its layers are compiled (``compile: true`` in a recipe).
    """

    def __init__(self, learner: Learner, device: torch.device, *, compiled: bool = False) -> None:
        if compiled:
            compile_layers(learner.backbone)
        self.model: nn.Module = learner
        self.learner = learner.train()
        self.world = World(rank=0, size=1, local_rank=0, device=device)
        self.section = OptimSection(lr=LR)
        self.strategy = Marked(learner, self.section, self.world)
        self.optimizer = self.strategy.optimizer

    def gradients(self, work: Work, precision: Precision, watch: Stopwatch) -> dict[str, Tensor]:
        """Run ``train_step``.

        The contrastive loss differentiates itself within what is marked as the forward. Where the
        multimodal encoder attends to padding, texts stay as long as the peers get them.
        """
        released = self.learner.backbone.padding == "released"
        batch = work.padded if released else work.trimmed
        weights = dict.fromkeys(self.learner.objectives_of(batch.modality), 1.0)
        self.strategy.watch = watch
        watch.mark()
        return train_step(
            self.strategy, self.learner, [batch], weights, self.world, (0,), precision=precision
        )

    def update(self) -> None:
        """Make the optimiser's step and bound the logit scale."""
        self.strategy.step()
        clamp_logit_scale(self.strategy.parameters(), self.section.max_logit_scale)
