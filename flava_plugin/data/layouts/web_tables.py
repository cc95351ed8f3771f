"""Tables of addresses and captions, whose pictures were fetched beforehand: CC3M, CC12M and SBU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flava_plugin.data.layouts.delimited import tab_rows
from flava_plugin.data.layouts.json_files import load
from flava_plugin.data.layouts.lines import lines, text_of
from flava_plugin.data.layouts.picture_names import ROWS_OF_A_SHARD, NameRule
from flava_plugin.data.layouts.record import Dropped, Record

Order = Literal["caption url", "url caption"]
"""Which column comes first: CC3M has the caption first, CC12M the address."""


class WebRow(NamedTuple):
    """A row of a table of addresses.

    Attributes:
        row: Its number among all rows, broken and empty-handed ones counted too (see
            ``picture_names.NameRule``).
        url: The address.
        text: The caption.
        where: File and line.
    """

    row: int
    url: str
    text: str
    where: str


def caption_tables(files: Iterable[Path], order: Order) -> Iterator[WebRow | Dropped]:
    """Read tab-separated tables of two columns, with or without a heading, quotes meaning nothing.

    A row whose columns stand the other way round, an address where the caption should be, is
    broken: a file of the other set would be read silently otherwise.

    Args:
        files: The tables.
        order: Which column comes first.

    Yields:
        A row each.
    """
    caption, url = (0, 1) if order == "caption url" else (1, 0)
    number = 0
    for file in files:
        number = next_folder(number)
        for row in tab_rows(file, columns=2):
            if isinstance(row, Dropped):
                number += row.reason != "empty line"
                yield row
                continue
            if row.number == 1 and "url" in {field.strip().lower() for field in row.fields}:
                continue  # the heading that img2dataset wants
            if _is_address(row.fields[caption]) and not _is_address(row.fields[url]):
                found = "an address where the caption should be: is it a table of another set?"
                yield Dropped("broken line", f"{row.where}: {found}")
            else:
                yield WebRow(number, row.fields[url].strip(), row.fields[caption], row.where)
            number += 1


def sbu_rows(path: Path) -> Iterator[WebRow | Dropped]:
    """Read SBU Captions: a folder with two parallel files of lines, or one JSON.

    The files are ``SBU_captioned_photo_dataset_urls.txt`` and ``..._captions.txt``; the JSON is
    ``{"image_urls": [...], "captions": [...]}`` or a list of objects with ``url`` (or
    ``image_url``) and ``caption``.

    Args:
        path: The folder, or the JSON file.

    Yields:
        A row each.

    Raises:
        ValueError: It is neither, or the files differ in length.
    """
    if path.is_dir():
        yield from _parallel_lines(path)
        return
    data = load(path)
    if isinstance(data, dict):
        urls, captions = data.get("image_urls", data.get("urls")), data.get("captions")
        if not isinstance(urls, list) or not isinstance(captions, list):
            raise ValueError(f"{path}: has no lists 'image_urls' and 'captions'")
        if len(urls) != len(captions):
            raise ValueError(f"{path}: {len(urls)} addresses but {len(captions)} captions")
        pairs: Iterator[tuple[Any, Any]] = zip(urls, captions, strict=True)
    elif isinstance(data, list):
        rows = (row if isinstance(row, dict) else {} for row in data)
        pairs = ((row.get("url", row.get("image_url")), row.get("caption")) for row in rows)
    else:
        raise ValueError(f"{path}: holds neither lists nor a list of objects")
    for number, (url, caption) in enumerate(pairs):
        where = f"{path}: entry {number}"
        text = text_of(caption, where, "caption")
        if isinstance(text, Dropped):
            yield text
        elif not isinstance(url, str):
            yield Dropped("broken line", f"{where}: has no address")
        else:
            yield WebRow(number, url, text, where)


def _parallel_lines(folder: Path) -> Iterator[WebRow | Dropped]:
    paths = [folder / f"SBU_captioned_photo_dataset_{name}.txt" for name in ("urls", "captions")]
    for number, (url, caption) in enumerate(zip_longest(*map(lines, paths))):
        if url is None or caption is None:
            raise ValueError(
                f"{paths[url is not None]}: ends after {number} lines, before the other file; "
                "lines belong together by number, so fetch both again"
            )
        if isinstance(url, Dropped):
            yield url
        elif isinstance(caption, Dropped):
            yield caption
        else:
            yield WebRow(number, url.text.strip(), caption.text, caption.where)


def web_records(
    rows: Iterable[WebRow | Dropped], rule: NameRule, in_doubt: frozenset[str] = frozenset()
) -> Iterator[Record | Dropped]:
    """Name the pictures of rows.

    Args:
        rows: The rows.
        rule: How a row's picture is called.
        in_doubt: Names that several addresses share (``shared_names``), which are left out.

    Yields:
        A record each.
    """
    for row in rows:
        if isinstance(row, Dropped):
            yield row
            continue
        name = rule.of(row=row.row, url=row.url)
        if name in in_doubt:
            yield Dropped("ambiguous name", f"{row.where}: several addresses end in {name!r}")
        else:
            yield Record(name, row.text, None, row.where)


def shared_names(rows: Iterable[WebRow | Dropped], rule: NameRule) -> frozenset[str]:
    """Find names that several addresses share; whose picture lies there nobody can tell.

    Args:
        rows: All rows.
        rule: How a row's picture is called.

    Returns:
        The names; none where the rule cannot clash.
    """
    if not rule.may_clash:
        return frozenset()
    owners: dict[str, bytes] = {}
    shared = set()
    for row in rows:
        if not isinstance(row, Dropped):
            name = rule.of(row=row.row, url=row.url)
            owner = blake2b(row.url.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            if owners.setdefault(name, owner) != owner:
                shared.add(name)
    return frozenset(shared)


def next_folder(row: int) -> int:
    """Where the rows of a further file start: at the next folder of img2dataset's output.

    Args:
        row: Rows so far.

    Returns:
        The next multiple of ``ROWS_OF_A_SHARD``, or ``row`` if it is one.
    """
    return -(-row // ROWS_OF_A_SHARD) * ROWS_OF_A_SHARD


def _is_address(text: str) -> bool:
    return text.lstrip().lower().startswith(("http://", "https://"))
