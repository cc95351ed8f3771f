"""Reading samples where some cannot be read: a substitute takes the place, and it is recorded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from flava_plugin.data.codes import Codes
from flava_plugin.data.damage import DamagedSampleError, raise_of_the_machine, reason_of
from flava_plugin.data.decoding import FAILURES, decode, warn_of_bombs
from flava_plugin.data.look import Look
from flava_plugin.data.randomness import key_of, uniform
from flava_plugin.types import Dataset, Key, Modality, Sample

TRIES = 32
"""Substitutes tried for a sample; if all fail, the dataset and not a sample is at fault."""

NEAR = 8
"""Of these, tries within the sample's own shard."""

OF_WHOLE_SHARDS = frozenset({"missing shard", "truncated tar", "damaged index"})
"""What befalls a shard as a rule: near substitutes would fail like the sample, and be counted."""

DETAIL = 300
"""Characters of a message that are kept."""


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
    dataset: Dataset,
    key: Key,
    modality: Modality,
    seed: int,
    look: Look | None = None,
    codes: Codes | None = None,
) -> tuple[Sample, list[BadSample]]:
    """Read a sample, or in its place another one, which is a function of the seed and the key.

    Args:
        dataset: Where from.
        key: Which sample.
        modality: What it must hold.
        seed: Seed of the run.
        look: How its picture is looked at; None only decodes it.
        codes: What the codebook makes of it, where that was computed before.

    Returns:
        The sample and a record of each sample that failed. Its picture is decoded and RGB, or with
        ``look`` gone into ``views``.

    Raises:
        UnreadableDataError: ``TRIES`` substitutes failed as well.
    """
    sample, fault = attempt(dataset, key.source, key.index, modality, look, codes)
    if fault is None:
        return sample, []
    faults = [fault]
    near = fault.reason not in OF_WHOLE_SHARDS
    for index in _substitutes(dataset, key, seed, near=near):
        sample, fault = attempt(dataset, key.source, index, modality, look, codes)
        if fault is None:
            return sample, faults
        faults.append(fault)
    first = faults[0]
    raise UnreadableDataError(
        f"data.sources.{key.source}: sample {first.index} cannot be read ({first.reason}: "
        f"{first.detail}), nor any of {TRIES} others tried in its place; check the dataset's files"
    )


def _substitutes(dataset: Dataset, key: Key, seed: int, *, near: bool) -> list[int]:
    """Indices to try in a sample's place: some of its own shard, which is at hand, then any."""
    draws = uniform(key_of(seed, "substitute", *key)[0], np.arange(TRIES))
    anywhere: list[int] = (draws * len(dataset)).astype(np.int64).tolist()
    if not near or not hasattr(dataset, "neighbours"):
        return anywhere
    shard: range = dataset.neighbours(key.index)
    return [shard[int(draw * len(shard))] for draw in draws[:NEAR]] + anywhere[NEAR:]


def attempt(
    dataset: Dataset,
    source: str,
    index: int,
    modality: Modality,
    look: Look | None = None,
    codes: Codes | None = None,
) -> tuple[Sample, BadSample | None]:
    """Read one sample and decode its picture.

    Args:
        dataset: Where from.
        source: Name of the source, for the record.
        index: Index in the dataset.
        modality: What the sample must hold.
        look: How its picture is looked at; None only decodes it.
        codes: What the codebook makes of it, where that was computed before.

    Returns:
        The sample and None; or an empty sample and what was wrong.

    Raises:
        OSError: The machine is at its limits, or a network file system does not answer.
    """
    with warnings.catch_warnings():
        warn_of_bombs(look.section if look is not None else None)
        try:
            sample = dataset.read(index)
        except FAILURES as error:
            raise_of_the_machine(error)
            placed = isinstance(error, DamagedSampleError)
            return Sample(), _bad(source, index, error, "" if placed else _name(dataset, index))
        if modality != "text":
            picture = sample.image
            if picture is None:
                return Sample(), BadSample(source, index, "no picture")
            try:
                if look is None:
                    sample = replace(sample, image=decode(picture))
                else:
                    sample = replace(sample, image=None, views=look.at(picture))
                if codes is not None:
                    sample = replace(sample, codes=codes.of(index))
            except (DamagedSampleError, OSError) as error:  # any other is a mistake in code
                raise_of_the_machine(error)
                return Sample(), _bad(source, index, error, _name(dataset, index))
    if modality != "image" and not (sample.text or "").strip():
        return Sample(), BadSample(source, index, "empty text")
    return sample, None


def _bad(source: str, index: int, error: Exception, name: str) -> BadSample:
    detail = error.detail if isinstance(error, DamagedSampleError) else str(error)
    if name and name not in detail:
        detail = f"{name}: {detail}"
    # names of members are anybody's words, and this goes to terminals
    said = "".join(sign if sign.isprintable() else "\ufffd" for sign in detail[:DETAIL])
    return BadSample(source, index, reason_of(error), said)


def _name(dataset: Dataset, index: int) -> str:
    """How a dataset calls a sample whose picture is at fault; empty where it does not say."""
    if not hasattr(dataset, "read_raw"):
        return ""
    try:
        return str(dataset.read_raw(index).name)
    except FAILURES:
        return ""
