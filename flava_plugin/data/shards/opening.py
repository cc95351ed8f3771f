"""A path or a URL -> the dataset of its shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.index_file import digest
from flava_plugin.data.shards.manifest import NAME, Manifest, decode_manifest
from flava_plugin.data.shards.selection import Selection
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.data.shards.store import Store, is_remote, open_store
from flava_plugin.types import Modality

MOST_READ = 8
"""How often a list that comes damaged, each time in another way, is asked for again."""


def open_shards(
    location: str,
    kind: Modality,
    *,
    cache: CacheSection | None = None,
    caption_key: str | None = None,
    labels: Sequence[str] = (),
    selection: Path | None = None,
    verify: bool = False,
) -> ShardSet:
    """Open the shards of a folder or a URL.

    Args:
        location: Where they are.
        kind: What a sample has to hold.
        cache: Where copies of remote tars are kept.
        caption_key: As ``ShardSet`` takes it.
        labels: As ``ShardSet`` takes them.
        selection: A file of kept samples; None for all.
        verify: As ``ShardSet`` takes it.

    Returns:
        The dataset.

    Raises:
        ValueError: There is no index, it is damaged, or it lists no sample.
    """
    store = open_store(location, cache)
    where = f"{location.rstrip('/')}/{NAME}"
    try:
        manifest = _manifest(store, where)
    except DamagedSampleError as error:
        before = "in the folder that is copied there" if is_remote(location) else "once"
        raise ValueError(
            f"{where}: there is no list of shards; run {before}: flava data index FOLDER"
        ) from error
    chosen = None if selection is None else Selection(selection, manifest)
    shards = ShardSet(
        store,
        manifest,
        kind,
        caption_key=caption_key,
        labels=labels,
        selection=chosen,
        verify=verify,
    )
    if not len(shards):
        raise ValueError(f"{selection or where}: lists no sample; see what flava data index said")
    return shards


def _manifest(store: Store, where: str) -> Manifest:
    """Read the list; one that is damaged is asked for again until the same bytes come twice."""
    seen: set[bytes] = set()
    while True:
        data = store.read(NAME)
        try:
            return decode_manifest(data, where)
        except ValueError as error:
            mark = digest(data)
            if mark in seen or len(seen) == MOST_READ or not store.doubt(NAME, str(error)):
                raise
            seen.add(mark)
