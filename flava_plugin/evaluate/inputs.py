"""Pictures and texts from anywhere -> a batch to evaluate: nothing by chance but the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from flava_plugin.data.collate import Padding, collate, pixel_scale, split
from flava_plugin.data.tokenizer import Tokenizer
from flava_plugin.data.transforms import prepare_plain
from flava_plugin.sections_data import DataSection
from flava_plugin.types import Batch, Key, Modality, Sample

Picture = Image.Image | str | Path


def make_batch(
    samples: Sequence[Sample],
    modality: Modality,
    *,
    data: DataSection,
    tokenizer: Tokenizer,
    keys: Sequence[Key] | None,
    patch_grid: int,
    with_codebook: bool,
    padded_whole: bool = False,
) -> Batch:
    """Make a batch; every row counts for the masked losses.

    Args:
        samples: B samples.
        modality: What of them is used.
        data: How pictures and texts become tensors, and what is hidden.
        tokenizer: The tokenizer.
        keys: Hide patches and words as in training, each sample's as a function of its key, the
            same for every seed of a recipe; None hides nothing.
        patch_grid: Patches of a side of the image.
        with_codebook: Whether there is a codebook, whose picture is made where something is hidden.
        padded_whole: Whether texts of pairs are as long as they may be, for a model that attends
            to padding.

    Returns:
        The batch, on the CPU, without the samples' labels.
    """
    # the contrastive loss saw texts of this length, whatever a text stream's is
    text = data.text.model_copy(update={"text_length": data.text.pair_length})
    items = [
        prepare_plain(
            sample,
            image=data.image,
            text=text,
            tokenizer=tokenizer,
            modality=modality,
            with_codebook=with_codebook and keys is not None,
            key=keys[row] if keys is not None else None,
            masking=data.masking if keys is not None else None,
            patch_grid=patch_grid,
        )
        for row, sample in enumerate(samples)
    ]
    # labels may be there for some samples only; no head of an evaluation reads them
    items = [replace(item, extra={}) for item in items]
    batch = collate(
        items,
        modality,
        pad_id=tokenizer.pad_id,
        pixels=pixel_scale(data.image, with_codebook and keys is not None),
        count_all=True,
    )
    if padded_whole and modality == "pair":
        whole = Padding(tokenizer.pad_id, data.text.pair_length, {})
        (batch,) = split(batch, len(batch), whole)
    return batch.as_floats()


def refuse_single(values: object) -> None:
    """Refuse one picture or text where a list is asked for; a text's letters would pass for texts.

    Args:
        values: What a caller gave for pictures or texts.

    Raises:
        ValueError: It is one text, path or picture.
    """
    if isinstance(values, str | Path | Image.Image):
        raise ValueError(f"{values!r} is one picture or text; give a list, such as [{values!r}]")


def picture(source: Picture | None) -> Image.Image:
    """Open a picture.

    Args:
        source: A picture, or the path of one.

    Returns:
        The picture.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    if isinstance(source, Image.Image):
        return source
    if source is None:
        raise ValueError("a picture is missing; give a PIL image or a path")
    try:
        opened: Image.Image = Image.open(source)
        opened.load()  # closes the file
        return opened
    except OSError as error:
        raise ValueError(f"{source}: no readable picture: {error}") from error
