"""The samples an evaluator measures on: a nested dataset of the recipe, opened at a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from pydantic import ValidationError

from flava_plugin import registry
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


def keyed(dataset: Dataset, count: int | None = None) -> Iterator[tuple[Key, Sample]]:
    """Read samples in order, each with the key that its masks are a function of.

    Args:
        dataset: Any dataset.
        count: How many; None reads all.

    Yields:
        tuple[Key, Sample]: In order. The source of the key is ``evaluate``, so masks are the same
        in every evaluation and are never those of a training stream.
    """
    for index in range(len(dataset) if count is None else min(count, len(dataset))):
        yield Key("evaluate", 0, index), dataset.read(index)


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
