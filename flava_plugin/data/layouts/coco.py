"""COCO captions: the annotations' own JSON, and Karpathy's ``dataset_coco.json`` with splits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from flava_plugin.data.layouts.json_files import load
from flava_plugin.data.layouts.lines import text_of
from flava_plugin.data.layouts.record import Dropped, Record


def coco_records(path: Path, splits: Collection[str]) -> Iterator[Record | Dropped]:
    """Read the captions of a file, those of a picture one after the other.

    ``captions_*.json`` is ``{"images": [{"id", "file_name"}], "annotations": [{"image_id",
    "caption"}]}``. ``dataset_coco.json`` (also for Flickr30k) is ``{"images": [{"filepath",
    "filename", "split", "cocoid", "sentences": [{"raw"}]}]}``. A picture is looked for at
    ``FOLDER/NAME``, the folder being ``filepath`` or the ``train2014`` of ``COCO_train2014_*``, and
    at ``NAME``.

    Args:
        path: The file.
        splits: Splits of Karpathy's file that are kept; the annotations' JSON has none.

    Yields:
        A record for each caption.

    Raises:
        ValueError: The file is none of these.
    """
    data = load(path)
    if isinstance(data, dict) and isinstance(data.get("images"), list):
        if isinstance(data.get("annotations"), list):
            yield from _annotations(data, str(path))
            return
        if all(isinstance(row, dict) and "sentences" in row for row in data["images"]):
            yield from _karpathy(data["images"], str(path), splits)
            return
    raise ValueError(
        f"{path}: neither COCO's captions ('images' and 'annotations') nor Karpathy's "
        "dataset_coco.json ('images' with 'sentences')"
    )


def _annotations(data: dict[str, Any], path: str) -> Iterator[Record | Dropped]:
    captions: dict[Any, list[tuple[int, Any]]] = {}
    for number, row in enumerate(data["annotations"]):
        where = f"{path}: annotation {number}"
        if isinstance(row, dict) and isinstance(row.get("image_id"), int):
            captions.setdefault(row["image_id"], []).append((number, row.get("caption")))
        else:
            yield Dropped("broken line", f"{where} has no whole number 'image_id'")
    for number, row in enumerate(data["images"]):
        name, picture = (row.get(k) if isinstance(row, dict) else None for k in ("file_name", "id"))
        if not isinstance(name, str) or not isinstance(picture, int):
            yield Dropped("broken line", f"{path}: picture {number} has no 'file_name' or 'id'")
            continue
        parts = name.split("_")
        folder = parts[1] if len(parts) == 3 and parts[0] == "COCO" else ""
        for annotation, value in captions.pop(picture, ()):
            where = f"{path}: annotation {annotation}"
            yield _record(name, folder, value, where, "caption", picture)
    for unknown, rows in captions.items():
        for annotation, _ in rows:
            where = f"{path}: annotation {annotation}"
            yield Dropped("broken line", f"{where} is of picture {unknown}, which is not listed")


def _karpathy(
    rows: list[dict[str, Any]], path: str, splits: Collection[str]
) -> Iterator[Record | Dropped]:
    for number, row in enumerate(rows):
        where = f"{path}: picture {number}"
        name, sentences, split = row.get("filename"), row.get("sentences"), row.get("split")
        if not isinstance(name, str) or not isinstance(sentences, list):
            yield Dropped("broken line", f"{where} has no 'filename' or no list of 'sentences'")
            continue
        picture = next((row[k] for k in ("cocoid", "imgid") if isinstance(row.get(k), int)), None)
        folder = row.get("filepath") or ""
        for sentence in sentences:
            if split not in splits:
                yield Dropped("other split", f"{where} is of split {split!r}")
                continue
            value = sentence.get("raw") if isinstance(sentence, dict) else sentence
            yield _record(name, str(folder), value, where, "raw", picture)


def _record(
    name: str, folder: str, value: Any, where: str, key: str, picture: int | None
) -> Record | Dropped:
    text = text_of(value, where, key)
    if isinstance(text, Dropped):
        return text
    if not folder:
        return Record(name, text, picture, where)
    return Record(f"{folder}/{name}", text, picture, where, (name,))
