"""Tables of addresses, whose pictures were fetched beforehand: CC3M, CC12M, SBU and WIT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.lines import files_at
from flava_plugin.data.layouts.picture_names import Missing, NameRule, Names
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.layouts.web_tables import (
    WebRow,
    caption_tables,
    sbu_rows,
    shared_names,
    web_records,
)
from flava_plugin.data.layouts.wit import Caption, wit_rows
from flava_plugin.schema import InputPath, Share


def cc3m(
    *,
    path: InputPath,
    images: InputPath,
    names: Names = "row",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """Conceptual Captions 3M: tab-separated, caption first, then the address.

    Args:
        path: The table, such as ``Train_GCC-training.tsv``, or a folder of ``*.tsv``.
        images: Folder of the pictures that were fetched.
        names: How a row's picture is called: ``row``, as img2dataset's ``files`` output
            (``00000/000000123.jpg``); ``md5`` or ``sha1`` of the address; ``basename`` of it; or a
            template such as ``{row:08d}.jpg``.
        missing: A picture that is not there (a third of the links are dead): ``drop`` leaves the
            row out and counts it, ``keep`` replaces it when it is read, against
            ``data.bad_samples``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: There is no such table, or nothing is left of it.
    """
    rows = partial(caption_tables, files_at(path, "*.tsv", "*.tsv.gz"), "caption url")
    return _fetched(rows, path, images, names, missing, broken_lines)


def cc12m(
    *,
    path: InputPath,
    images: InputPath,
    names: Names = "row",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """Conceptual 12M: tab-separated, the address first, then the caption.

    Args:
        path: ``cc12m.tsv``, or a folder of ``*.tsv``.
        images: Folder of the pictures that were fetched.
        names: How a row's picture is called; see ``cc3m``.
        missing: A picture that is not there: ``drop`` or ``keep``; see ``cc3m``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset; ``<PERSON>`` stays in captions.

    Raises:
        ValueError: There is no such table, or nothing is left of it.
    """
    rows = partial(caption_tables, files_at(path, "*.tsv", "*.tsv.gz"), "url caption")
    return _fetched(rows, path, images, names, missing, broken_lines)


def sbu(
    *,
    path: InputPath,
    images: InputPath,
    names: Names = "basename",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """SBU Captions: addresses and captions of a million photographs of Flickr.

    Args:
        path: Folder of ``SBU_captioned_photo_dataset_{urls,captions}.txt``, or the JSON of both.
        images: Folder of the pictures that were fetched.
        names: How a row's picture is called; see ``cc3m``. torchvision's ``SBU`` lays them by
            ``basename``.
        missing: A picture that is not there: ``drop`` or ``keep``; see ``cc3m``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: There are no such files, they differ in length, or nothing is left of them.
    """
    return _fetched(partial(sbu_rows, path), path, images, names, missing, broken_lines)


def wit(
    *,
    path: InputPath,
    images: InputPath,
    languages: tuple[str, ...] = ("en",),
    captions: tuple[Caption, ...] = ("reference", "attribution", "alt_text"),
    names: Names = "row",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """WIT, Wikipedia's pictures with their captions.

    The reference description comes first by default, since it is the caption the article's reader
    sees, in the article's language; the attribution is that of the picture's own page, and counts
    only where WIT's language check passed; alternative texts are rare and terse. Which of them PMD
    took is not published.

    Args:
        path: A ``wit_v1.train.*.tsv.gz``, or a folder of them.
        images: Folder of the pictures that were fetched.
        languages: Values of ``language`` that are kept; the others are left out and counted.
        captions: Which texts may be the caption; the first that is there is.
        names: How a row's picture is called; see ``cc3m``. Rows of every language count.
        missing: A picture that is not there: ``drop`` or ``keep``; see ``cc3m``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: A table has not WIT's 17 columns, or nothing is left.
    """
    files = files_at(path, "*.tsv", "*.tsv.gz")
    rows = partial(wit_rows, files, languages=languages, captions=captions)
    return _fetched(rows, path, images, names, missing, broken_lines)


def _fetched(
    rows: Callable[[], Iterator[WebRow | Dropped]],
    path: Path,
    images: Path,
    names: str,
    missing: Missing,
    broken_lines: float,
) -> Captioned:
    """Read rows and name their pictures; twice, where names may clash."""
    rule = NameRule(names)
    in_doubt = shared_names(rows(), rule) if rule.may_clash else frozenset[str]()
    records = web_records(rows(), rule, in_doubt)
    return gather(records, images, what=str(path), missing=missing, broken_lines=broken_lines)
