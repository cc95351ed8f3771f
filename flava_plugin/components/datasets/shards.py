"""Indexed tars in WebDataset's layout: of img2dataset, of ``flava data pack``, of anyone."""

from __future__ import annotations

from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.schema import InputPath, Location


def webdataset_pairs(
    *,
    path: Location,
    cache: CacheSection | None = None,
    caption_key: str | None = None,
    labels: list[str] | None = None,
    selection: InputPath | None = None,
    verify: bool = False,
) -> ShardSet:
    """Pictures with captions in tars: ``KEY.jpg`` and ``KEY.txt``, or ``KEY.json`` for captions.

    ``flava data index`` is run once over the tars.

    Args:
        path: A folder of ``*.tar``, or a URL of one.
        cache: Where copies of remote tars are kept; needed for a URL.
        caption_key: Key of the JSON record that captions are taken from; null takes the text
            member, and where there is none the key that ``flava data index`` was told.
        labels: Keys of the JSON record, numbers or texts, that go along as labels.
        selection: A file of ``flava data curate`` that says which samples are used.
        verify: Compare every sample that is read with its checksum.

    Returns:
        The dataset; where samples have a ``KEY.cls``, ``extra`` has ``class``.

    Raises:
        ValueError: There is no index, or it is damaged; the text says what to run.
    """
    return open_shards(
        path,
        "pair",
        cache=cache,
        caption_key=caption_key,
        labels=labels or (),
        selection=selection,
        verify=verify,
    )


def webdataset_images(
    *,
    path: Location,
    cache: CacheSection | None = None,
    labels: list[str] | None = None,
    selection: InputPath | None = None,
    verify: bool = False,
) -> ShardSet:
    """Pictures alone in tars: ``KEY.jpg``; captions beside them are left where they are.

    Args:
        path: A folder of ``*.tar``, or a URL of one.
        cache: Where copies of remote tars are kept; needed for a URL.
        labels: Keys of the JSON record, numbers or texts, that go along as labels.
        selection: A file of ``flava data curate`` that says which samples are used.
        verify: Compare every sample that is read with its checksum.

    Returns:
        The dataset; where samples have a ``KEY.cls``, ``extra`` has ``class``.

    Raises:
        ValueError: There is no index, or it is damaged; the text says what to run.
    """
    return open_shards(
        path, "image", cache=cache, labels=labels or (), selection=selection, verify=verify
    )


def webdataset_text(
    *,
    path: Location,
    cache: CacheSection | None = None,
    caption_key: str | None = None,
    labels: list[str] | None = None,
    selection: InputPath | None = None,
    verify: bool = False,
) -> ShardSet:
    """Texts alone in tars: ``KEY.txt``, or ``KEY.json``; pictures beside them are left unread.

    Args:
        path: A folder of ``*.tar``, or a URL of one.
        cache: Where copies of remote tars are kept; needed for a URL.
        caption_key: Key of the JSON record that texts are taken from; null takes the text member,
            and where there is none the key that ``flava data index`` was told.
        labels: Keys of the JSON record, numbers or texts, that go along as labels.
        selection: A file of ``flava data curate`` that says which samples are used.
        verify: Compare every sample that is read with its checksum.

    Returns:
        The dataset; where samples have a ``KEY.cls``, ``extra`` has ``class``.

    Raises:
        ValueError: There is no index, or it is damaged; the text says what to run.
    """
    return open_shards(
        path,
        "text",
        cache=cache,
        caption_key=caption_key,
        labels=labels or (),
        selection=selection,
        verify=verify,
    )
