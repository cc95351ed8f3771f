"""Visual Genome: ``region_descriptions.json``, a phrase for each region of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flava_plugin.data.layouts.json_files import array_items
from flava_plugin.data.layouts.lines import text_of
from flava_plugin.data.layouts.record import Dropped, Record


def region_records(path: Path) -> Iterator[Record | Dropped]:
    """Pair each phrase with its whole picture, as PMD does (5.4 M pairs are as many phrases).

    The file is a list of ``{"id", "regions": [{"image_id", "phrase", "x", "y", "width",
    "height"}]}``, 700 MB, and is read item by item; boxes are passed over. A picture is looked for
    as ``VG_100K/ID.jpg``, ``VG_100K_2/ID.jpg`` and ``ID.jpg``.

    Args:
        path: The file.

    Yields:
        A record for each region.

    Raises:
        ValueError: The file is no JSON array.
    """
    for number, item in enumerate(array_items(path)):
        where = f"{path}: picture {number}"
        regions = item.get("regions") if isinstance(item, dict) else None
        if not isinstance(regions, list):
            yield Dropped("broken line", f"{where} has no list of 'regions'")
            continue
        for place, region in enumerate(regions):
            here = f"{where}, region {place}"
            if not isinstance(region, dict):
                yield Dropped("broken line", f"{here} is no JSON object")
                continue
            picture = region.get("image_id", item.get("id", item.get("image_id")))
            if not isinstance(picture, int):
                yield Dropped("broken line", f"{here} has no whole number 'image_id'")
                continue
            text = text_of(region.get("phrase"), here, "phrase")
            if isinstance(text, Dropped):
                yield text
                continue
            others = (f"VG_100K_2/{picture}.jpg", f"{picture}.jpg")
            yield Record(f"VG_100K/{picture}.jpg", text, picture, here, others)
