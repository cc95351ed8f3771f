"""A trained model with everything around it that turns pictures and texts into its batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from flava_plugin.evaluate import answering, streaming
from flava_plugin.evaluate.abilities import check_objective
from flava_plugin.evaluate.index import Index, build_index
from flava_plugin.evaluate.inputs import Picture, make_batch, picture, refuse_single
from flava_plugin.evaluate.samples import batches
from flava_plugin.evaluate.sharing import ALONE, Ranks, share
from flava_plugin.model.backbone import fused_encoder_of
from flava_plugin.model.learner import Learner
from flava_plugin.recipe import Recipe
from flava_plugin.types import Batch, Key, Modality, Sample

if TYPE_CHECKING:
    from flava_plugin.types import Features


class Flava:
    """A learner with everything around it that turns pictures and texts into its batches.

    Every method runs without gradients, in fp32, in batches of ``batch_size``, with dropout off,
    and leaves the learner's training mode as it was. What it returns lies on the CPU.

    Ranks that measure together hold one each and make the same calls: the encode methods compute
    each batch on one rank and return all, the others compute on every rank (``sharing``).

    Args:
        learner: Backbone, heads and losses.
        tokenizer: The tokenizer it was trained with.
        recipe: The recipe it was trained with.
        device: Where the learner is.
        batch_size: Rows at a time.
        ranks: This process among those that measure together.
    """

    def __init__(
        self,
        learner: Learner,
        tokenizer: Any,
        recipe: Recipe,
        device: str | torch.device,
        *,
        batch_size: int = 64,
        ranks: Ranks = ALONE,
    ) -> None:
        self.learner = learner
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.ranks = ranks

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives that the learner has heads for."""
        return list(self.recipe.objectives)

    @property
    def patch_grid(self) -> int:
        """Patches of a side of the image."""
        return math.isqrt(cast(int, self.learner.backbone.image_encoder.num_patches))

    @property
    def width(self) -> int:
        """Width E of the embeddings of pictures and texts."""
        return self.recipe.model.projection

    @property
    def scale(self) -> float:
        """What a cosine is multiplied by: exp of the trained logit scale, 1 where there is none."""
        for name, value in self.learner.losses.named_parameters():
            if name.rsplit(".", 1)[-1] == "logit_scale":
                return float(value.detach().exp())
        return 1.0

    def encode_image(self, images: Sequence[Picture | None]) -> Tensor:
        """Embed pictures.

        Args:
            images: N pictures, or paths of pictures.

        Returns:
            (N, E) float, L2-normalised.
        """

        def pictured(image: Picture | None) -> Sample:
            return Sample(image=picture(image))

        refuse_single(images)
        return self._map(images, pictured, "image", "image_projected")

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts.

        Args:
            texts: N texts.

        Returns:
            (N, E) float, L2-normalised.
        """
        refuse_single(texts)
        return self._map(texts, lambda each: Sample(text=each), "text", "text_projected")

    def encode_pair(self, images: Sequence[Picture], texts: Sequence[str]) -> Tensor:
        """Fuse each picture with its text.

        Args:
            images: N pictures, or paths of pictures.
            texts: N texts.

        Returns:
            (N, D) float, the multimodal encoder's [CLS].

        Raises:
            ValueError: The numbers of pictures and texts differ, or nothing fuses them.
        """
        refuse_single(images)
        refuse_single(texts)
        if len(images) != len(texts):
            raise ValueError(
                f"encode_pair takes a text for each picture, not {len(texts)} for {len(images)}"
            )

        def paired(pair: tuple[Picture, str]) -> Sample:
            return Sample(image=picture(pair[0]), text=pair[1])

        width = cast(int, fused_encoder_of(self.learner.backbone).width)
        pairs = list(zip(images, texts, strict=True))
        return self._map(pairs, paired, "pair", "fused.cls", width)

    def score(self, images: Sequence[Picture], texts: Sequence[str]) -> Tensor:
        """Score every picture against every text.

        Args:
            images: N pictures, or paths of pictures.
            texts: M texts.

        Returns:
            (N, M) float, cosine times ``scale``: the logits of the contrastive loss.
        """
        return self.scale * self.encode_image(images) @ self.encode_text(texts).T

    def classify(
        self,
        images: Sequence[Picture],
        names: Sequence[str],
        templates: Sequence[str] | None = None,
    ) -> Tensor:
        """Probabilities (N, C) of class names, without training: see ``answering``."""
        classes = answering.class_embeddings(self, names, templates)
        return answering.probabilities(self, self.encode_image(images), classes)

    def answer(
        self,
        images: Sequence[Picture],
        questions: Sequence[str],
        k: int = 5,
        *,
        objective: str = "answers",
        answers: Sequence[str] | None = None,
    ) -> list[list[answering.Guess]]:
        """The k likeliest answers to each question: see ``answering.answer_stream``."""
        pairs = answering.paired(images, questions)
        return list(answering.answer_stream(self, pairs, k=k, objective=objective, answers=answers))

    def stream(
        self,
        items: Iterable[Picture | str],
        kind: Literal["image", "text"],
        *,
        progress: bool = False,
    ) -> Iterator[Tensor]:
        """Embeddings (n, E) of any number of pictures or texts: see ``streaming.stream``."""
        return streaming.stream(self, items, kind, progress=progress)

    def index(
        self,
        items: Iterable[Picture | str],
        kind: Literal["image", "text"] = "image",
        *,
        names: Iterable[str] | None = None,
        folder: str | Path | None = None,
        progress: bool = False,
    ) -> Index:
        """An index of any number of pictures or texts: see ``streaming.named`` and ``index``."""
        rows = streaming.named(self, items, kind, names=names, progress=progress)
        return build_index(self, rows, None if folder is None else Path(folder))

    def batch(
        self,
        samples: Sequence[Sample],
        modality: Modality,
        *,
        keys: Sequence[Key] | None = None,
        matched: Tensor | None = None,
    ) -> Batch:
        """Make a batch on the learner's device.

        Args:
            samples: B samples.
            modality: What of them is used.
            keys: Hide patches and words as in training, each sample's as a function of its key;
                None hides nothing.
            matched: (B,) bool, whether picture and text belong together; None: all do. Every row
                counts for the masked losses either way.

        Returns:
            The batch.
        """
        batch = make_batch(
            samples,
            modality,
            data=self.recipe.data,
            tokenizer=self.tokenizer,
            keys=keys,
            patch_grid=self.patch_grid,
            with_codebook=self.learner.codebook is not None,
            padded_whole=self.recipe.model.padding == "released",
        )
        if matched is not None:
            batch = replace(batch, matched=matched)
        return batch.to(self.device)

    def features(self, batch: Batch, field: str) -> Tensor:
        """Run the backbone for one field of ``Features``.

        Args:
            batch: On the learner's device.
            field: Such as ``fused``, or positions of it such as ``fused.cls``.

        Returns:
            The field; positions that were not asked for may be NaN.
        """
        with self.evaluating():
            found: Features = self.learner.backbone(batch, frozenset({field}))
        value = getattr(found, field.partition(".")[0])
        assert isinstance(value, Tensor), f"the backbone gave no {field}"
        return value

    def predict(self, objective: str, batch: Batch) -> Any:
        """Run the backbone and an objective's head.

        Args:
            objective: Its name in the recipe.
            batch: Of the head's modality, on the learner's device.

        Returns:
            What the head returns; an objective that is not there is refused.
        """
        check_objective(objective, self.objectives)
        with self.evaluating():
            return self.learner.predict(batch, [objective])[1][objective]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Turn dropout and gradients off for a while."""
        training = self.learner.training
        self.learner.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.learner.train(training)

    def _map(
        self,
        items: Sequence[Any],
        sample: Callable[[Any], Sample],
        modality: Modality,
        field: str,
        width: int | None = None,
    ) -> Tensor:
        def work(group: Sequence[Any]) -> Tensor:
            with self.evaluating():
                found = self.features(self.batch(list(map(sample, group)), modality), field).float()
                found = found[:, 0] if field == "fused.cls" else normalize(found, dim=-1)
                return found.cpu()

        parts = list(share(self, batches(items, self.batch_size), work))
        return torch.cat(parts) if parts else torch.zeros(0, width or self.width)
