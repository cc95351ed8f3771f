"""Retrieval on Karpathy's splits of COCO and Flickr30k."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.coco import coco_records
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.lines import lines
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.record import Dropped, Record
from flava_plugin.schema import InputPath, Positive, Share

_SPLITS = {"train": ("train", "restval"), "dev": ("val",), "val": ("val",), "test": ("test",)}


def karpathy_retrieval(
    *,
    path: InputPath,
    images: InputPath | None = None,
    split: Literal["train", "dev", "val", "test", "all"] = "train",
    captions: Positive | None = 5,
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """Pictures with five captions each, for retrieval both ways (Karpathy and Fei-Fei 2015).

    A pair for each caption; those of a picture follow each other and have the same ``picture``. A
    few pictures of COCO have six or seven captions, of which the protocol takes the first five:
    5,000 pictures and 25,000 captions in its test split.

    Args:
        path: ``dataset_coco.json`` or ``dataset_flickr30k.json``; or Flickr30k's
            ``results_20130124.token``, which has no splits; or the folder of one such JSON.
        images: Folder of the pictures, or the one above ``train2014`` and ``val2014``; null takes
            ``flickr30k-images`` beside the file, or the file's own folder.
        split: The split; ``train`` has COCO's ``restval`` too, ``dev`` is ``val``.
        captions: How many of a picture are taken, the first ones; null takes all.
        missing: A picture that is not there: ``drop`` leaves its captions out and counts them,
            ``keep`` replaces them when they are read, against ``data.bad_samples``.
        broken_lines: Share of captions that may be broken; ten may be anyway.

    Returns:
        The dataset; ``extra`` has ``picture``.

    Raises:
        ValueError: The file is none of these, has no such split, or nothing is left of it.
    """
    if path.is_dir():
        found = sorted(path.glob("dataset_*.json"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise ValueError(f"{path}: wants one dataset_*.json, has {names}; name the file itself")
        path = found[0]
    if images is None:
        beside = path.parent / "flickr30k-images"
        images = beside if beside.is_dir() else path.parent
    if path.suffix == ".token":
        if split != "all":
            raise ValueError(
                f"{path}: has no splits; take Karpathy's dataset_flickr30k.json, or say split: all"
            )
        entries = _token_records(path)
    else:
        wanted = ("train", "restval", "val", "test") if split == "all" else _SPLITS[split]
        entries = coco_records(path, wanted)
    what = f"{path} ({split})"
    return gather(
        _first(entries, captions), images, what=what, missing=missing, broken_lines=broken_lines
    )


def _first(entries: Iterator[Record | Dropped], captions: int | None) -> Iterator[Record | Dropped]:
    """The first captions of each picture, which follow each other."""
    last, taken = "", 0
    for entry in entries:
        if isinstance(entry, Dropped):
            yield entry
            continue
        taken = taken + 1 if entry.image == last else 1
        last = entry.image
        if captions is None or taken <= captions:
            yield entry
        else:
            yield Dropped("further caption", entry.where)


def _token_records(path: Path) -> Iterator[Record | Dropped]:
    """Lines ``1000092795.jpg#0<tab>caption``."""
    for line in lines(path):
        if isinstance(line, Dropped):
            yield line
            continue
        key, tab, caption = line.text.partition("\t")
        name, mark, number = key.partition("#")
        if not tab or not mark or not number.strip().isdecimal():
            yield Dropped("broken line", f"{line.where}: not NAME.jpg#NUMBER, a tab, a caption")
        else:
            yield Record(name, caption, None, line.where)
