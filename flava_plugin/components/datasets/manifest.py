"""Pictures with captions from a table of one's own."""

from __future__ import annotations

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.english import English
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.manifest import Manifest, manifest_records
from flava_plugin.data.layouts.picture_names import Missing, NameRule, Names
from flava_plugin.schema import Count, InputPath, Int, Share


def manifest_pairs(
    *,
    path: InputPath,
    images: InputPath | None = None,
    image: str | Int = "image",
    caption: str | Int = "caption",
    header: bool = True,
    names: Names | None = None,
    english: English = "off",
    min_words: Count = 0,
    language: str | Int | None = None,
    languages: tuple[str, ...] = ("en",),
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """Pictures with captions from a TSV, CSV or JSON lines file, or an ``imagefolder``'s metadata.

    Args:
        path: ``*.tsv`` (quotes mean nothing), ``*.csv`` or ``*.jsonl``, which may be ``.gz``.
        images: Folder that the pictures' paths start from; null takes the file's own.
        image: Column (or key) of the picture, by name, or by number from 0. Hugging Face's
            ``imagefolder`` calls it ``file_name``.
        caption: Column (or key) of the caption; in JSON lines also a list of captions.
        header: Whether the first row names the columns.
        names: How the picture is called where the column is an address; see ``cc3m``. A template
            may use ``{image}``, as in ``{image:.5}/{image}.jpg`` for the ``key`` of img2dataset's
            tables. Null takes the column as a path.
        english: ``stopwords`` or ``ascii`` keep English captions only (see ``yfcc100m``).
        min_words: Fewest words of a caption.
        language: Column of the language; null for none.
        languages: Values of it that are kept.
        missing: A picture that is not there: ``drop`` leaves its captions out and counts them,
            ``keep`` replaces them when they are read, against ``data.bad_samples``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: The table lacks a column, or nothing is left of it.
    """
    rule = None if names is None else NameRule(names)
    manifest = Manifest(image, caption, header, rule, english, min_words, language, languages)
    records = manifest_records(path, manifest)
    folder = images or path.parent
    return gather(records, folder, what=str(path), missing=missing, broken_lines=broken_lines)
