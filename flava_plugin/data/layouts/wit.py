"""WIT (Wikipedia): tab-separated tables of 17 columns, one row per picture and page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from flava_plugin.data.layouts.delimited import tab_rows
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.layouts.web_tables import WebRow, next_folder

COLUMNS = (
    "language",
    "page_url",
    "image_url",
    "page_title",
    "section_title",
    "hierarchical_section_title",
    "caption_reference_description",
    "caption_attribution_description",
    "caption_alt_text_description",
    "mime_type",
    "original_height",
    "original_width",
    "is_main_image",
    "attribution_passes_lang_id",
    "page_changed_recently",
    "context_page_description",
    "context_section_description",
)

Caption = Literal["reference", "attribution", "alt_text"]
"""The three texts of a picture; see ``wit_rows``."""

_HEADINGS: dict[Caption, str] = {
    "reference": "caption_reference_description",
    "attribution": "caption_attribution_description",
    "alt_text": "caption_alt_text_description",
}


def wit_rows(
    files: Iterable[Path], *, languages: Collection[str], captions: Sequence[Caption]
) -> Iterator[WebRow | Dropped]:
    """Read rows of some languages.

    Of the three texts the reference description stands below the picture in the article, in the
    article's language; the attribution is that of the picture's own page and may be of any
    language, so that it counts only where ``attribution_passes_lang_id`` is true, and loses the
    ``English:`` that often starts it; the alternative text is rare and terse.

    Args:
        files: ``wit_v1.train.all-*.tsv.gz``, or decompressed; each starts with a heading.
        languages: Values of ``language`` that are kept.
        captions: Which texts may be the caption, the first that is there.

    Yields:
        A row each; its number counts rows of all languages.

    Raises:
        ValueError: A file has not WIT's heading.
    """
    number = 0
    for file in files:
        number = next_folder(number)
        places: dict[str, int] | None = None
        for row in tab_rows(file, columns=len(COLUMNS)):
            if isinstance(row, Dropped):
                number += row.reason != "empty line"
                yield row
                continue
            if places is None:
                places = {name.strip(): place for place, name in enumerate(row.fields)}
                if lacking := [name for name in COLUMNS if name not in places]:
                    raise ValueError(
                        f"{file}: its heading lacks {', '.join(lacking)}; give WIT's own "
                        "wit_v1.*.tsv.gz, or read another table with manifest_pairs"
                    )
                continue
            values = {name: row.fields[place] for name, place in places.items()}
            number += 1
            if values["language"] not in languages:
                yield Dropped("other language", row.where)
                continue
            text = _caption(values, captions)
            if text is None:
                yield Dropped("no text", row.where)
            else:
                yield WebRow(number - 1, values["image_url"].strip(), text, row.where)


def _caption(values: dict[str, str], captions: Sequence[Caption]) -> str | None:
    for kind in captions:
        text = values[_HEADINGS[kind]].strip()
        if kind == "attribution":
            if values["attribution_passes_lang_id"].strip().lower() != "true":
                continue
            text = text.removeprefix("English:").strip()
        if text:
            return text
    return None
