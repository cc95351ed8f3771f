"""Everything trainable as one module: Batch -> {objective: loss}.

It is one module because data parallelism, sharding and activation checkpointing only reach what
passes through the wrapped ``forward``, and it returns a plain dict because FSDP2 finds no tensor in
a dataclass of ours and would train nothing without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin import registry
from flava_plugin.model.attention_kernels import Kernel
from flava_plugin.model.backbone import Backbone, check_needs, fields_of
from flava_plugin.model.execution import set_execution
from flava_plugin.model.parts import build_backbone, build_part, widths_of
from flava_plugin.sections import ModelSection, ObjectiveSection
from flava_plugin.types import Batch, Features, Modality, predicted_positions

Loss = Callable[[Any, Batch], Tensor]


class Learner(nn.Module):
    """A backbone with the objectives' heads and losses.

    Args:
        backbone: The backbone.
        heads: Head by objective.
        losses: Loss by objective; see ``components/losses.py`` for what it must offer.
        modalities: By objective, the kind of batch that feeds it.
        codebook: Image (B, 3, h, w) -> codes (B, P); None where no objective reads codes.

    Attributes:
        backbone: The backbone.
        heads: Head by objective.
        losses: Those losses that are modules, by objective.
        modalities: By objective, the kind of batch that feeds it.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, nn.Module],
        losses: Mapping[str, Loss],
        modalities: Mapping[str, Modality],
        codebook: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.losses = nn.ModuleDict(
            {name: loss for name, loss in losses.items() if isinstance(loss, nn.Module)}
        )
        self.modalities = dict(modalities)
        self._functions = {n: loss for n, loss in losses.items() if not isinstance(loss, nn.Module)}
        # In a tuple, so that it is neither a parameter to shard, decay or save, nor ever trained.
        self._frozen = () if codebook is None else (codebook.eval().requires_grad_(False),)
        self._row_counts_checked: set[str] = set()

    @property
    def codebook(self) -> nn.Module | None:
        """The frozen codebook; it moves with the learner and is not in its state."""
        return self._frozen[0] if self._frozen else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Learner:
        for module in self._frozen:
            module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return cast(Learner, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]

    def loss_of(self, objective: str) -> Loss:
        """The loss of an objective, be it a module or a function.

        Args:
            objective: Its name.

        Returns:
            The loss.
        """
        if objective in self._functions:
            return self._functions[objective]
        return self.losses[objective]

    def is_global(self, objective: str) -> bool:
        """Whether an objective's loss compares all rows of the global batch.

        Args:
            objective: Its name.

        Returns:
            True for the contrastive loss and its like.
        """
        return getattr(self.loss_of(objective), "scope", None) == "global"

    def objectives_of(self, modality: Modality, *, only_global: bool = False) -> list[str]:
        """Objectives that a kind of batch feeds.

        Args:
            modality: The kind of batch.
            only_global: Whether to leave out those whose loss is a sum over rows.

        Returns:
            Their names, in the recipe's order.
        """
        names = [name for name, fed in self.modalities.items() if fed == modality]
        return [name for name in names if self.is_global(name)] if only_global else names

    def forward(
        self, batch: Batch, *, embeddings_only: bool = False, objective: str | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses that a batch feeds.

        Args:
            batch: A batch.
            embeddings_only: Whether to compute only what the global losses compare, without any
                masked pass.
            objective: The only one to compute; the backbone runs what its head reads.

        Returns:
            ``objective``: the sum of its counted rows' losses, 0-dim fp32. For an objective with a
            global loss instead ``objective.image`` and ``objective.text``, (B, E) fp32 and
            L2-normalised, and ``objective.log_scale``, 0-dim: the training step compares them
            over all ranks and micro-batches.
        """
        names = self.objectives_of(batch.modality, only_global=embeddings_only)
        if objective is not None:
            names = [name for name in names if name == objective]
        batch, predictions = self.predict(batch, names)
        losses: dict[str, Tensor] = {}
        for name in names:
            if self.is_global(name):
                with torch.autocast(batch.device.type, enabled=False):
                    image, text = (F.normalize(x.float(), dim=-1) for x in predictions[name])
                losses[f"{name}.image"] = image
                losses[f"{name}.text"] = text
                # Cloned, for DDP finds used parameters by the outputs' graph: a bare one has none.
                losses[f"{name}.log_scale"] = cast(Tensor, self.losses[name].logit_scale).clone()
            else:
                rows = self.loss_of(name)(predictions[name], batch)
                self._check_rows(name, rows, batch)
                losses[name] = rows.float().sum()
        return losses

    def predict(self, batch: Batch, objectives: Iterable[str]) -> tuple[Batch, dict[str, Any]]:
        """Run the backbone once and the heads of some objectives.

        Args:
            batch: A batch that feeds them.
            objectives: Their names.

        Returns:
            The batch, with codes where a head reads them, and each head's prediction.
        """
        heads = {name: self.heads[name] for name in objectives}
        if not heads:
            return batch, {}
        everything = fields_of(batch, fuses=self.backbone.mm_encoder is not None)
        needs = (getattr(head, "needs", everything) for head in heads.values())
        codes = {getattr(head, "needs_codes", False) for head in heads.values()} - {False}
        if codes:
            some = self.training and codes == {"predicted"}
            batch = self.with_codes(batch, only_predicted=some)
        features: Features = self.backbone(batch, frozenset().union(*needs))
        return batch, {name: head(features, batch) for name, head in heads.items()}

    def with_codes(self, batch: Batch, *, only_predicted: bool = False) -> Batch:
        """Add the codebook's targets to a batch that lacks them.

        Args:
            batch: A batch with ``codes`` or ``codebook_image``.
            only_predicted: Whether the codebook may leave out patches that no head predicts; their
                codes are ``IGNORE`` then.

        Returns:
            A batch with ``codes``.

        Raises:
            ValueError: There is no codebook, or no image for it.
        """
        if batch.codes is not None:
            return batch
        if self.codebook is None:
            raise ValueError("an objective predicts patches, but model.codebook is not set")
        if batch.codebook_image is None:
            raise ValueError(f"a {batch.modality} batch has neither codes nor codebook_image")
        some = getattr(self.codebook, "codes_at", None) if only_predicted else None
        # fp32, so that the targets do not depend on the precision of training.
        with torch.no_grad(), torch.autocast(batch.codebook_image.device.type, enabled=False):
            if some is None:
                codes = self.codebook(batch.codebook_image)
            else:
                codes = some(batch.codebook_image, predicted_positions(batch, "patches"))
        return replace(batch, codes=codes.flatten(1))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the rows that each objective's loss will sum over, without a forward.

        Args:
            batch: A batch.

        Returns:
            0-dim long by objective, on the batch's device.
        """
        return {name: self._count(name, batch) for name in self.objectives_of(batch.modality)}

    def _count(self, name: str, batch: Batch) -> Tensor:
        count = getattr(self.loss_of(name), "count", None)
        if count is not None:
            return cast(Tensor, count(batch))
        return torch.tensor(len(batch), device=batch.device)

    def _check_rows(self, name: str, rows: Tensor, batch: Batch) -> None:
        # A count on a GPU costs a wait, so there the first batch of an objective has to do.
        if rows.is_cuda and name in self._row_counts_checked:
            return
        self._row_counts_checked.add(name)
        expected = int(self._count(name, batch))
        if rows.shape != (expected,):
            raise ValueError(
                f"objectives.{name}.loss returned {tuple(rows.shape)} instead of ({expected},): a "
                "loss gives one number per counted row, and count(batch) says how many there are"
            )


def hides(learner: Learner) -> bool:
    """Whether an objective predicts what is hidden; fine-tuning sees whole inputs.

    Args:
        learner: The learner.

    Returns:
        True where a head reads masked inputs or predicted positions, or a loss has them as target.
    """
    needs = {need for head in learner.heads.values() for need in getattr(head, "needs", ())}
    targets = {getattr(learner.loss_of(name), "target", None) for name in learner.heads}
    fields = {tuple(need.partition(".")[::2]) for need in needs}
    read = any(field.endswith("_masked") or at in ("words", "patches") for field, at in fields)
    return read or bool(targets & {"words", "patches"})


def build_learner(
    model: ModelSection,
    objectives: Mapping[str, ObjectiveSection],
    *,
    words: int,
    image_size: int,
    seed: int,
    attention: Kernel = "auto",
    activation_checkpointing: bool | int = False,
) -> Learner:
    """Build what a recipe describes.

    Args:
        model: The recipe's model section.
        objectives: The recipe's objectives.
        words: Size of the tokenizer's vocabulary.
        image_size: Pixels of a side, ``data.image.size``.
        seed: The first weights are a function of it alone.
        attention: How attention is computed; see ``execution.py``.
        activation_checkpointing: Which encoder layers are computed anew in the backward pass; see
            ``execution.py``.

    Returns:
        The learner, on the CPU.

    Raises:
        ValueError: Parts do not fit together.
    """
    backbone = build_backbone(model, words=words, seed=seed)
    set_execution(backbone, attention=attention, activation_checkpointing=activation_checkpointing)
    codebook = None
    if model.codebook is not None:
        codebook = build_part(
            registry.codebooks, model.codebook, "model.codebook", model=model, seed=seed
        )
    widths = widths_of(backbone, words, codebook, image_size)
    heads: dict[str, nn.Module] = {}
    losses: dict[str, Loss] = {}
    for name, objective in objectives.items():
        place = f"objectives.{name}"
        heads[name] = build_part(
            registry.heads, objective.head, f"{place}.head", widths, model=model, seed=seed
        )
        try:
            check_needs(backbone, getattr(heads[name], "needs", ()))
        except ValueError as error:
            raise ValueError(f"{place}.head: {error}") from error
        losses[name] = build_part(
            registry.losses, objective.loss, f"{place}.loss", model=model, seed=seed
        )
        if getattr(heads[name], "needs_codes", False) and codebook is None:
            raise ValueError(f"{place}.head reads codes; set model.codebook, which makes them")
    modalities = {name: objective.modality for name, objective in objectives.items()}
    return Learner(backbone, heads, losses, modalities, codebook)
