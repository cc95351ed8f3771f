"""Localized Narratives: JSON lines, a spoken paragraph for a picture of another data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from flava_plugin.data.layouts.lines import json_lines, text_of
from flava_plugin.data.layouts.record import Dropped, Record
from flava_plugin.data.layouts.sentences import sentences


def narrative_records(
    files: Iterable[Path], *, split: bool, extension: str = ".jpg"
) -> Iterator[Record | Dropped]:
    """Read narratives, cut into sentences or whole.

    A line is ``{"dataset_id", "image_id", "annotator_id", "caption", ...}``. A picture of COCO is
    called by its number with twelve digits, ``000000137576.jpg``, one of the other sets (Open
    Images, Flickr30k, ADE20k) by its ``image_id``. It is looked for at ``DATASET_ID/NAME`` and at
    ``NAME``.

    Args:
        files: The ``*.jsonl`` files.
        split: Whether each sentence becomes a pair.
        extension: End of the pictures' names.

    Yields:
        A record for each sentence, or narrative.
    """
    for file in files:
        for line in json_lines(file):
            if isinstance(line, Dropped):
                yield line
                continue
            dataset, image = line.row.get("dataset_id"), line.row.get("image_id")
            if isinstance(image, int) and not isinstance(image, bool):
                image = str(image)
            if not isinstance(image, str) or not image:
                yield Dropped("broken line", f"{line.where}: has no 'image_id'")
                continue
            text = text_of(line.row.get("caption"), line.where, "caption")
            if isinstance(text, Dropped):
                yield text
                continue
            name = _name(image, str(dataset or "")) + extension
            first = f"{dataset}/{name}" if isinstance(dataset, str) and dataset else name
            others = (name,) if first != name else ()
            parts = sentences(text, lower_starts=True) if split else [text]
            for part in parts or [""]:
                yield Record(first, part, None, line.where, others)


def _name(image: str, dataset: str) -> str:
    return image.zfill(12) if "coco" in dataset.lower() and image.isdigit() else image
