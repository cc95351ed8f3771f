"""Heads: Features and Batch -> prediction.

What the learner asks of any head, built-in or foreign:

- It is built from ``Widths`` and is a module with ``forward(features, batch)``.
- ``needs``, if it has one, names the fields of ``Features`` it reads, or the positions of a field:
  ``fused.cls`` (the first), ``text_masked.words``, ``fused.patches`` (where masked heads predict).
  Positions that no head names may not be computed and hold NaN then; what stands at padding means
  nothing. Without ``needs`` the backbone
  computes every field the batch allows.
- ``needs_codes = True`` where it reads ``batch.codes``; the learner then runs the codebook. With
  ``"predicted"`` it reads them at predicted patches only, and others may be ``IGNORE``.
- ``recipe_init = True`` where the recipe's ``init_std`` is to fill its weights.

Legend for shapes: B rows, P patches, L tokens, N predicted positions, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects
from torchmultimodal.modules.layers.mlp import MLP
from torchmultimodal.modules.layers.normalizations import Fp32LayerNorm
from torchmultimodal.modules.losses.flava import Pooler, TwoWayHead

from flava_plugin.rows import pick
from flava_plugin.schema import Float, Int
from flava_plugin.types import Batch, Features, MaskedPrediction, Widths, predicted_positions

NormEps = Annotated[Float, Field(gt=0)]


class TokenDecoder(nn.Module):
    """Transform and output layer of a masked head, named as torchmultimodal's.

    The bias is one parameter under one name; torchmultimodal has it under two
    (``model/weights.py`` knows).

    Args:
        width: Width D.
        vocabulary: Size V.
        norm_eps: Epsilon of the layer norm.
    """

    def __init__(self, width: int, vocabulary: int, norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.layer_norm = Fp32LayerNorm(width, eps=norm_eps)
        self.decoder = nn.Linear(width, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor) -> Tensor:
        """Turn states into logits.

        Args:
            hidden: (n, D).

        Returns:
            (n, V).
        """
        hidden = self.layer_norm(F.gelu(self.dense(hidden)))
        return F.linear(hidden, self.decoder.weight, self.bias)


class WordTokens(nn.Module):
    """Predicts hidden words: MLM from the text encoder, MMM from the multimodal one.

    Args:
        widths: Sizes of backbone and vocabularies.
        reads: ``text`` for MLM, ``fused`` for MMM.
        norm_eps: Epsilon of the layer norm (torchmultimodal and the released weights: 1e-5;
            Hugging Face: 1e-12).
    """

    recipe_init = True

    def __init__(
        self, widths: Widths, /, *, reads: Literal["text", "fused"], norm_eps: NormEps = 1e-5
    ) -> None:
        super().__init__()
        width = widths.text if reads == "text" else widths.fused
        self.cls = TokenDecoder(width, widths.words, norm_eps)
        self.reads = reads
        self.needs = frozenset({"text_masked.words" if reads == "text" else "fused.words"})

    def forward(self, features: Features, batch: Batch) -> MaskedPrediction:
        """Gather the states of the hidden words.

        Args:
            features: With ``text_masked`` or ``fused``.
            batch: With ``word_labels``.

        Returns:
            The N predicted positions.
        """
        states = features.text_masked if self.reads == "text" else features.fused
        assert states is not None and batch.word_labels is not None
        first = states.shape[1] - batch.word_labels.shape[1]
        chosen = predicted_positions(batch, "words")
        hidden, labels = gather(states, batch.word_labels, chosen, first)
        return MaskedPrediction(hidden, labels, self.cls)


class PatchTokens(nn.Module):
    """Predicts hidden patches' codes: MIM from the image encoder, MMM from the multimodal one.

    Args:
        widths: Sizes of backbone and vocabularies.
        reads: ``image`` for MIM, ``fused`` for MMM.
        norm_eps: Epsilon of the layer norm (torchmultimodal and the released weights: 1e-5;
            Hugging Face: 1e-12).
    """

    recipe_init = True
    needs_codes = "predicted"

    def __init__(
        self, widths: Widths, /, *, reads: Literal["image", "fused"], norm_eps: NormEps = 1e-5
    ) -> None:
        super().__init__()
        width = widths.image if reads == "image" else widths.fused
        self.cls = TokenDecoder(width, widths.codes, norm_eps)
        self.reads = reads
        self.needs = frozenset({"image_masked.patches" if reads == "image" else "fused.patches"})

    def forward(self, features: Features, batch: Batch) -> MaskedPrediction:
        """Gather the states of the hidden patches.

        Args:
            features: With ``image_masked`` or ``fused``.
            batch: With ``patch_mask`` and ``codes``.

        Returns:
            The N predicted positions.

        Raises:
            ValueError: The codebook's grid is not the encoder's.
        """
        states = features.image_masked if self.reads == "image" else features.fused
        chosen = predicted_positions(batch, "patches")
        assert states is not None and batch.codes is not None
        if batch.codes.shape != chosen.shape:
            raise ValueError(
                f"the codebook gives {batch.codes.shape[1]} codes for an image of "
                f"{chosen.shape[1]} patches; set data.image.codebook_size so that its grid is the "
                "image encoder's"
            )
        # [CLS_I] stands before the patches, and in fused states [CLS_M] before that.
        first = 1 if self.reads == "image" else 2
        hidden, labels = gather(states, batch.codes, chosen, first)
        return MaskedPrediction(hidden, labels, self.cls)


def gather(states: Tensor, labels: Tensor, chosen: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Take states and labels at chosen positions, looked up once.

    Args:
        states: (B, S, D).
        labels: (B, L) long.
        chosen: (B, L) bool.
        first: Position in ``states`` of the first label.

    Returns:
        (N, D) states and (N,) labels.
    """
    places = chosen.flatten().nonzero().squeeze(1)
    length = chosen.shape[1]
    rows = places.div(length, rounding_mode="floor")
    positions = rows * states.shape[1] + first + places - rows * length
    return pick(states.flatten(0, 1), positions), labels.flatten()[places]


class PairMatch(nn.Module):
    """Says whether image and text belong together (ITM), from the multimodal [CLS].

    Args:
        widths: Sizes of the backbone.
    """

    recipe_init = True
    needs = frozenset({"fused.cls"})

    def __init__(self, widths: Widths, /) -> None:
        super().__init__()
        self.pooler = Pooler(widths.fused)
        self.cls = TwoWayHead(widths.fused)

    def forward(self, features: Features, batch: Batch) -> Tensor:
        """Score every pair.

        Args:
            features: With ``fused``.
            batch: Not read.

        Returns:
            (B, 2) logits: apart, together.
        """
        assert features.fused is not None
        first = features.fused[:, :1].clone()  # a view would keep all states for the backward pass
        return cast(Tensor, self.cls(self.pooler(first)))


class Projections(nn.Module):
    """Hands the contrastive loss both projected [CLS]; the projections belong to the backbone.

    Args:
        widths: Not read.
    """

    needs = frozenset({"image_projected", "text_projected"})

    def __init__(self, widths: Widths, /) -> None:
        super().__init__()

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pick both projections.

        Args:
            features: With ``image_projected`` and ``text_projected``.
            batch: Not read.

        Returns:
            Image and text projections, both (B, E), not normalised.
        """
        assert features.image_projected is not None and features.text_projected is not None
        return features.image_projected, features.text_projected


class Classifier(nn.Module):
    """Class logits from one encoder's [CLS] of the unmasked input (paper section 3.2).

    With ``hidden: 1536`` the head of the paper's multimodal tasks (two layers; it names neither
    activation nor norm). It is torchmultimodal's MLP: ReLU, no norm, and dropout after it.

    Args:
        widths: Sizes of the backbone.
        num_classes: Number of classes C, or 1 for a number. Null: as many as the dataset has
            ``class_names`` or ``answers``, which ``flava train`` writes into the recipe.
        reads: ``image``, ``text`` or ``fused``.
        hidden: Width of a hidden layer; null for a linear classifier.
        dropout: Share dropped after the hidden layer in training.

    Raises:
        ValueError: The number of classes is still not known.
    """

    recipe_init = True

    def __init__(
        self,
        widths: Widths,
        /,
        *,
        num_classes: Annotated[Int, Field(gt=0)] | None = None,
        reads: Literal["image", "text", "fused"] = "fused",
        hidden: Annotated[Int, Field(gt=0)] | None = None,
        dropout: Annotated[Float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        self.reads = reads
        self.needs = frozenset({f"{reads}.cls"})
        width = {"image": widths.image, "text": widths.text, "fused": widths.fused}[reads]
        self.classifier = MLP(width, known_classes(num_classes), hidden, dropout)

    def forward(self, features: Features, batch: Batch) -> Tensor:
        """Classify every row.

        Args:
            features: With the field that ``reads`` names.
            batch: Not read.

        Returns:
            (B, C) logits.
        """
        return cast(Tensor, self.classifier(getattr(features, self.reads)[:, 0].clone()))


def known_classes(num_classes: int | None) -> int:
    """Refuse a number of classes that nobody has counted.

    Args:
        num_classes: The option of a head.

    Returns:
        It.

    Raises:
        ValueError: It is null.
    """
    if num_classes is None:
        raise ValueError(
            "num_classes is null, which is counted where the data is at hand ('flava train'); "
            "set it"
        )
    return num_classes
