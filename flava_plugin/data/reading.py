"""Reading samples where some cannot be read: a substitute takes the place, and it is recorded."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from flava_plugin.data.damage import DamagedSampleError, reason_of
from flava_plugin.data.pictures import to_rgb
from flava_plugin.data.randomness import key_of, uniform
from flava_plugin.types import Dataset, Key, Modality, Sample

TRIES = 32
"""Substitutes tried for a sample; if all fail, the dataset and not a sample is at fault."""

# What PIL, datasets and damaged files raise (UnidentifiedImageError is an OSError; broken JSON and
# UTF-8 are ValueErrors, a broken PNG chunk a SyntaxError). Anything else is a mistake in code.
_FAILURES = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class UnreadableDataError(RuntimeError):
    """More of the data cannot be read than the recipe puts up with."""


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be read.

    Attributes:
        source: Name of the source.
        index: Index in the dataset.
        reason: What went wrong, in words that many samples share.
        detail: The message.
    """

    source: str
    index: int
    reason: str
    detail: str = ""


def read(
    dataset: Dataset, key: Key, modality: Modality, seed: int
) -> tuple[Sample, list[BadSample]]:
    """Read a sample, or in its place another one, which is a function of the seed and the key.

    Args:
        dataset: Where from.
        key: Which sample.
        modality: What it must hold.
        seed: Seed of the run.

    Returns:
        The sample, its picture decoded and RGB, and a record of each sample that failed.

    Raises:
        UnreadableDataError: ``TRIES`` substitutes failed as well.
    """
    sample, fault = attempt(dataset, key.source, key.index, modality)
    if fault is None:
        return sample, []
    faults = [fault]
    draws = uniform(key_of(seed, "substitute", *key)[0], np.arange(TRIES))
    for index in (draws * len(dataset)).astype(np.int64).tolist():
        sample, fault = attempt(dataset, key.source, index, modality)
        if fault is None:
            return sample, faults
        faults.append(fault)
    first = faults[0]
    raise UnreadableDataError(
        f"data.sources.{key.source}: sample {first.index} cannot be read ({first.reason}: "
        f"{first.detail}), nor any of {TRIES} others tried in its place; check the dataset's files"
    )


def attempt(
    dataset: Dataset, source: str, index: int, modality: Modality
) -> tuple[Sample, BadSample | None]:
    """Read one sample and decode its picture.

    Args:
        dataset: Where from.
        source: Name of the source, for the record.
        index: Index in the dataset.
        modality: What the sample must hold.

    Returns:
        The sample and None; or an empty sample and what was wrong.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            sample = dataset.read(index)
            if modality != "text" and sample.image is not None:
                sample.image.load()
                sample = replace(sample, image=to_rgb(sample.image))
    except _FAILURES as error:
        detail = error.detail if isinstance(error, DamagedSampleError) else str(error)
        return Sample(), BadSample(source, index, reason_of(error), detail[:200])
    if modality != "text" and (sample.image is None or 0 in sample.image.size):
        return Sample(), BadSample(source, index, "no picture")
    if modality != "image" and not (sample.text or "").strip():
        return Sample(), BadSample(source, index, "empty text")
    return sample, None
