"""The samples an evaluator measures on: a nested dataset of the recipe, opened at a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from pydantic import ValidationError

from flava_plugin import registry
from flava_plugin.data.damage import raise_of_the_machine
from flava_plugin.schema import Component
from flava_plugin.types import Dataset, Key, Sample

Item = TypeVar("Item")


def open_dataset(spec: Component, split: str) -> Any:
    """Build a nested dataset at a split.

    Args:
        spec: The dataset as the recipe names it.
        split: Goes to the dataset's ``split`` option where it has one, in place of the recipe's.

    Returns:
        The dataset, with whatever attributes (class names, templates) it has besides
        ``types.Dataset``.

    Raises:
        ValueError: The dataset has no such split, or its options are wrong.
    """
    options = spec.options
    if "split" in registry.datasets.schema(spec.type).model_fields:
        options["split"] = split
    try:
        return registry.datasets.build(spec.type, **options)
    except ValidationError as refused:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in refused.errors()]
        found = options.get("split")
        raise ValueError(
            f"dataset '{spec.type}': {'; '.join(faults)} (split: {found})"
        ) from refused


Rows = Sequence[int] | int | None
"""Indices of a dataset's samples: these, the first so many, or all."""


def rows_of(dataset: Dataset, rows: Rows) -> Sequence[int]:
    """List the indices of samples, which are lighter to share out than samples.

    Args:
        dataset: Any dataset.
        rows: Which; no more than there are.

    Returns:
        The indices.
    """
    if rows is None or isinstance(rows, int):
        return range(len(dataset) if rows is None else min(rows, len(dataset)))
    return rows


def keyed(dataset: Dataset, rows: Rows = None) -> Iterator[tuple[Key, Sample]]:
    """Read samples in order, each with the key that its masks are a function of.

    Args:
        dataset: Any dataset.
        rows: Which.

    Yields:
        tuple[Key, Sample]: In order. The source of the key is ``evaluate``, so masks are the same
        in every evaluation and are never those of a training stream.
    """
    for index in rows_of(dataset, rows):
        yield Key("evaluate", 0, index), dataset.read(index)


def decoded(dataset: Dataset, rows: Rows = None) -> Iterator[tuple[Key, Sample]]:
    """Read samples as ``keyed`` does, and decode their pictures.

    Args:
        dataset: Any dataset.
        rows: Which.

    Yields:
        tuple[Key, Sample]: In order. What cannot be decoded is refused as ``decode`` refuses it.
    """
    for key, sample in keyed(dataset, rows):
        decode(sample, key.index)
        yield key, sample


def decode(sample: Sample, index: int) -> None:
    """Decode a sample's picture, so that a broken one is named before a model sees its batch.

    Args:
        sample: The sample; without a picture nothing is done.
        index: Its index in the dataset.

    Raises:
        ValueError: The picture is broken. It is not passed over: every sample counts in a figure.
    """
    if sample.image is None:
        return
    try:
        sample.image.load()
    except Exception as error:  # decoders raise anything
        raise_of_the_machine(error)
        name = getattr(sample.image, "filename", "") or "its picture"
        raise ValueError(
            f"sample {index}: {name} cannot be decoded ({error}); replace it"
        ) from error


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group items.

    Args:
        items: Anything, read lazily.
        size: Most items of a group.

    Yields:
        list[Item]: Of ``size`` items, the last one shorter.
    """
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
