"""The order that a recipe wants for a source, and whether it can be had."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.arrangement import Arrangement, Everything, Streams
from flava_plugin.data.buckets import Buckets
from flava_plugin.data.order import Order
from flava_plugin.sections_data import MatchingSection, SourceSection
from flava_plugin.types import Dataset


def order_of(
    name: str,
    dataset: Dataset,
    source: SourceSection,
    *,
    seed: int,
    global_batch: int,
    matching: MatchingSection,
) -> Order:
    """Make the order of a source as its recipe wants it.

    Args:
        name: Name of the source.
        dataset: Its dataset; with ``shard_lengths`` it is read shard by shard.
        source: Its section.
        seed: Seed of the run.
        global_batch: Rows of a step over all ranks.
        matching: Which rows become ITM negatives, where it is a source of pairs.

    Returns:
        The order.

    Raises:
        ValueError: The source is empty, or the dataset cannot do what ``shuffle`` asks for.
    """
    where = f"data.sources.{name}"
    if len(dataset) < 1:
        raise ValueError(f"{where}.dataset: it holds no sample; check its path and split")
    shuffle = source.shuffle
    lengths: NDArray[np.int64] | None = getattr(dataset, "shard_lengths", None)
    arrangement: Arrangement = Everything(name, len(dataset), seed)
    if lengths is not None and shuffle.window is not None:
        streams = shuffle.streams or streams_for(global_batch)
        arrangement = Streams(name, lengths, seed, streams=streams, window=shuffle.window)
    pairs = matching if source.modality == "pair" else None
    order = Order(name, arrangement, seed, pairs, global_batch)
    if shuffle.buckets:
        if not hasattr(dataset, "text_sizes"):
            raise ValueError(
                f"{where}.shuffle.buckets: dataset '{source.dataset.type}' does not tell the sizes "
                "of its texts (text_sizes); set it to 0, or pack the texts into shards"
            )
        even = not global_batch % arrangement.streams
        order.buckets = Buckets(
            name,
            seed,
            group=shuffle.buckets,
            global_batch=global_batch,
            streams=arrangement.streams if even else 1,
            sizes=partial(_sizes, order, dataset.text_sizes),
        )
    return order


def streams_for(global_batch: int) -> int:
    """Choose a number of streams: the largest divisor that leaves each some rows of a batch.

    Args:
        global_batch: Rows of a step over all ranks.

    Returns:
        At most 256 (64 nodes of 4 ranks each read their own), and an eighth of the batch, so that
        an ITM negative finds another caption in its own stream.
    """
    most = max(1, min(256, global_batch // 8))
    return next(count for count in range(most, 0, -1) if not global_batch % count)


def footprint(order: Order, dataset: Dataset, size: int) -> str | None:
    """Say how much of a source a rank reads at a time.

    Args:
        order: The source's.
        dataset: Its shards.
        size: Number of ranks.

    Returns:
        A line for the log; None where the source is not read by windows.
    """
    streams = order.arrangement
    if not isinstance(streams, Streams):
        return None
    shards = len(streams.shard_lengths)
    own = streams.streams // gcd(streams.streams, size)
    # a window begins and ends inside of a shard, and the next one is fetched meanwhile
    per_window = ceil(min(streams.window, streams.length) * shards / streams.length) + 1
    held = min(shards, 2 * own * per_window)
    line = (
        f"data.sources.{order.source}: {streams.length:,} samples in {shards:,} shards, read in "
        f"{streams.streams} streams by windows of {streams.window:,}; a rank needs up to {held} "
        "shards at a time"
    )
    sizes: NDArray[np.int64] | None = getattr(dataset, "shard_bytes", None)
    if sizes is not None:
        line += f", {held * float(sizes.mean()) / 2**30:.1f} GiB"
    return line


def _sizes(
    order: Order,
    text_sizes: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    positions: NDArray[np.int64],
) -> NDArray[np.int64]:
    return text_sizes(order.indices_at(positions))
