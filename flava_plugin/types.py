"""The words every part of the package shares: samples, batches, features and their shapes.

Legend for shapes: B rows, P patches, L tokens, D width, E projection width, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from flava_plugin.pixels import PixelScale, shrink

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor
    from torchmultimodal.models.flava.model import FLAVAOutput

Modality = Literal["image", "text", "pair"]
MODALITIES: tuple[Modality, ...] = ("image", "text", "pair")

IGNORE = -1
"""Label of a position that no loss reads (torchmultimodal's ``ignore_index``)."""


@dataclass(frozen=True)
class Sample:
    """One raw example, as a dataset reads it.

    Attributes:
        image: An RGB picture of any size, or None in a text stream.
        text: The caption or sentence, or None in an image stream.
        negative_text: A caption that is close to ``text`` and false for ``image``, where the
            dataset can offer one.
        extra: Labels by name, each a number, a list of numbers (of lists, as for boxes) or a
            string. Lists are as long in every sample: where there are more things in some, places
            are left over in others, with a label such as ``IGNORE``.
        codes: (P,) int64, what the codebook makes of the picture; datasets leave it out.
        views: What became of the picture once it was looked at, in place of ``image``; datasets
            leave it out.
        second_text: What is read after ``text``, as one sequence ``[CLS] A [SEP] B [SEP]``: the
            second sentence of a pair, a hypothesis, an OCR text. FLAVA's encoder has no use for
            segments (torchmultimodal's ``FLAVAModel`` passes no ``token_type_ids``, so every
            token is of segment 0); ``[SEP]`` alone parts the two.
    """

    image: Image.Image | None = None
    text: str | None = None
    negative_text: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    codes: NDArray[Any] | None = None
    views: tuple[NDArray[Any], NDArray[Any] | None] | None = None
    second_text: str | None = None


@runtime_checkable
class Dataset(Protocol):
    """A map-style dataset of raw samples: ``len`` and ``read``, nothing that iterates.

    One whose labels are places in the picture (boxes, points) also has ``whole_pictures = True``:
    a recipe that crops or flips is refused then.
    """

    def __len__(self) -> int:
        """Number of samples in one epoch."""
        ...

    def read(self, index: int, /) -> Sample:
        """Read sample ``index`` of ``range(len(self))``."""
        ...


class Key(NamedTuple):
    """Names one sample of a run: every crop, mask and word choice is a function of it.

    Attributes:
        source: Name of the source in the recipe.
        epoch: How often the source has been passed through before.
        index: Index in the dataset.
    """

    source: str
    epoch: int
    index: int  # type: ignore[assignment]  # of a sample; nobody asks a key for tuple.index


@dataclass(frozen=True)
class Widths:
    """Sizes that a head needs to fit the backbone and the data.

    Attributes:
        image: Width D of the image encoder.
        text: Width D of the text encoder.
        fused: Width D of the multimodal encoder, 0 without one.
        projection: Width E of the contrastive projections.
        words: Size of the word vocabulary.
        codes: Size of the codebook's vocabulary.
        patches: Number of patches P of an image.
    """

    image: int
    text: int
    fused: int
    projection: int
    words: int
    codes: int
    patches: int


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one modality.

    Attributes:
        modality: Which encoders run.
        image: (B, 3, H, W) float, normalised; or uint8 before ``as_floats``.
        codebook_image: (B, 3, h, w) float in the codebook's range, the same crop; or uint8, or
            None until ``as_floats`` makes it.
        codes: (B, P) long, the codebook's targets where they were computed beforehand; ``IGNORE``
            at patches that nobody predicts, where the codebook leaves these out.
        patch_mask: (B, P) bool, True where the image encoder sees the mask token.
        text: (B, L) long, token ids without masking.
        text_masked: (B, L) long, token ids with masked words replaced.
        text_padding: (B, L) bool, True at real tokens, False at padding, which stands behind them.
        word_labels: (B, L) long, the id to predict or ``IGNORE``.
        matched: (B,) bool, True where text and image belong together (the ITM label).
        positives: (B,) bool, rows that MMM and the contrastive loss count.
        pixels: What ``as_floats`` does to pictures in uint8; None where they are floats.
        extra: Labels by name, each with B rows.
    """

    modality: Modality
    image: Tensor | None = None
    codebook_image: Tensor | None = None
    codes: Tensor | None = None
    patch_mask: Tensor | None = None
    text: Tensor | None = None
    text_masked: Tensor | None = None
    text_padding: Tensor | None = None
    word_labels: Tensor | None = None
    matched: Tensor | None = None
    positives: Tensor | None = None
    pixels: PixelScale | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows B."""
        tensor = self.image if self.image is not None else self.text
        assert tensor is not None, "a batch holds images or text"
        return tensor.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        tensor = self.image if self.image is not None else self.text
        assert tensor is not None, "a batch holds images or text"
        return tensor.device

    def to(self, device: torch.device | str) -> Batch:
        """Copy every tensor to ``device``.

        Args:
            device: Where to.

        Returns:
            The same batch there.
        """
        moved = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if hasattr(value := getattr(self, f.name), "to")
        }
        extra = {name: value.to(device, non_blocking=True) for name, value in self.extra.items()}
        return replace(self, **moved, extra=extra)

    def as_floats(self) -> Batch:
        """Scale pictures that are kept in uint8, a quarter of the memory and of the copying.

        The codebook's is made from the encoder's where ``pixels`` says so and the batch has none.

        Returns:
            The same batch with pictures in floats; itself where they are so already.
        """
        if self.pixels is None:
            return self
        scale = self.pixels
        changes: dict[str, Any] = {}
        small = self.codebook_image
        if self.image is not None:
            changes["image"] = scale.for_encoder(self.image)
            if small is None and self.codes is None and scale.codebook_size is not None:
                small = shrink(self.image, scale.codebook_size)
        if small is not None:
            changes["codebook_image"] = scale.for_codebook(small)
        return replace(self, **changes, pixels=None)


@dataclass(frozen=True)
class Features:
    """What the backbone makes of a batch; a field is None where no objective needs it.

    All states are after the encoder's final layer norm.

    Attributes:
        image: (B, 1 + P, D) states of the unmasked image, [CLS_I] first.
        image_masked: (B, 1 + P, D) states of the masked image.
        text: (B, L, D) states of the unmasked text, [CLS_T] first.
        text_masked: (B, L, D) states of the masked text.
        fused: (B, 2 + P + L, D) multimodal states: [CLS_M], [CLS_I], P patches, L tokens. Of the
            masked inputs where the batch has them, else of the unmasked ones.
        image_projected: (B, E) projection of [CLS_I] of the unmasked image, not normalised.
        text_projected: (B, E) projection of [CLS_T] of the unmasked text, not normalised.
    """

    image: Tensor | None = None
    image_masked: Tensor | None = None
    text: Tensor | None = None
    text_masked: Tensor | None = None
    fused: Tensor | None = None
    image_projected: Tensor | None = None
    text_projected: Tensor | None = None

    @classmethod
    def from_torchmultimodal(cls, output: FLAVAOutput) -> Features:
        """Name what torchmultimodal's ``FLAVAModel`` puts out by our words, for our heads.

        Args:
            output: Of its forward; parts that are empty there are None here.

        Returns:
            The same tensors, without a copy. ``fused`` is ``multimodal_masked``, or ``multimodal``
            where that is empty.
        """

        def states(part: Any) -> Tensor | None:
            return None if part is None else part.last_hidden_state

        masked = states(output.multimodal_masked)
        return cls(
            image=states(output.image),
            image_masked=states(output.image_masked),
            text=states(output.text),
            text_masked=states(output.text_masked),
            fused=states(output.multimodal) if masked is None else masked,
            image_projected=output.projected_image_embeddings,
            text_projected=output.projected_text_embeddings,
        )


@dataclass(frozen=True)
class MaskedPrediction:
    """What a head has to say at masked positions, decoded only when and in the pieces asked for.

    Attributes:
        hidden: (N, D) states at the N predicted positions of the counted rows.
        labels: (N,) long, the word or code that stands there.
        decode: (n, D) states -> (n, V) logits, for any slice of ``hidden``.
    """

    hidden: Tensor
    labels: Tensor
    decode: Callable[[Tensor], Tensor]


def predicted_positions(batch: Batch, target: Literal["words", "patches"], /) -> Tensor:
    """Where a masked head predicts: the hidden positions of the rows that count.

    Args:
        batch: Any batch; rows outside ``positives`` do not count.
        target: ``words`` or ``patches``.

    Returns:
        (B, L) or (B, P) bool.

    Raises:
        ValueError: The batch has no such labels.
    """
    if target == "words":
        if batch.word_labels is None:
            raise ValueError(f"a {batch.modality} batch has no word_labels; was its text masked?")
        hidden = batch.word_labels != IGNORE
    else:
        if batch.patch_mask is None:
            raise ValueError(f"a {batch.modality} batch has no patch_mask; was its image masked?")
        hidden = batch.patch_mask
    return hidden if batch.positives is None else hidden & batch.positives[:, None]
