"""RedCaps: a JSON file for each subreddit and year."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from flava_plugin.data.layouts.json_files import load
from flava_plugin.data.layouts.lines import text_of
from flava_plugin.data.layouts.record import Dropped, Record

Caption = Literal["caption", "raw_caption"]
"""``caption`` is the title cleaned by RedCaps' authors, ``raw_caption`` as it was posted."""


def red_caps_records(files: Iterable[Path], key: Caption) -> Iterator[Record | Dropped]:
    """Read annotations.

    A file is ``{"info": ..., "annotations": [{"image_id", "url", "caption", "raw_caption",
    "subreddit", ...}]}``. A picture is ``SUBREDDIT/IMAGE_ID.jpg``, as RedCaps' own tool lays it.

    Args:
        files: ``SUBREDDIT_YEAR.json`` each.
        key: Which caption.

    Yields:
        A record for each annotation.

    Raises:
        ValueError: A file is none of RedCaps'.
    """
    for file in files:
        data = load(file)
        rows = data.get("annotations") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"{file}: has no list 'annotations'; give RedCaps' annotation files")
        for number, row in enumerate(rows):
            where = f"{file}: annotation {number}"
            names = [row.get(k) for k in ("subreddit", "image_id")] if isinstance(row, dict) else []
            if len(names) != 2 or not all(isinstance(name, str) and name for name in names):
                yield Dropped("broken line", f"{where} lacks 'subreddit' or 'image_id'")
                continue
            text = text_of(row.get(key), where, key)
            if isinstance(text, Dropped):
                yield text
                continue
            yield Record(f"{names[0]}/{names[1]}.jpg", text, None, where)
