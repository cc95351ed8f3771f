"""What the picture of a line is called: checked paths, and names made of rows and addresses."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath, PureWindowsPath
from string import Formatter
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

ROWS_OF_A_SHARD = 10_000
"""Rows that img2dataset puts into one of its folders (``number_sample_per_shard``'s default)."""

KNOWN = ("row", "md5", "sha1", "basename")
_FIELDS = ("row", "shard", "md5", "sha1", "basename", "image")


def check_names(value: str) -> str:
    """Refuse a rule for names that is none.

    Args:
        value: A word of ``KNOWN``, or a template.

    Returns:
        The same.

    Raises:
        ValueError: It is neither; the text lists what may stand in a template.
    """
    if value in KNOWN:
        return value
    way_out = (
        f"write {', '.join(KNOWN)}, or a template of {', '.join(f'{{{f}}}' for f in _FIELDS)} such "
        "as '{shard:05d}/{row:09d}.png'"
    )
    try:
        used = [field for _, field, _, _ in Formatter().parse(value) if field is not None]
        if not used or not set(used) <= set(_FIELDS):
            raise ValueError(f"is no rule for names; {way_out}")
        NameRule(value).of(row=1, url="http://x.y/z.jpg", image="a")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"is no rule for names ({error}); {way_out}") from error
    return value


Names = Annotated[str, AfterValidator(check_names)]
"""How the picture of a row is called (see ``NameRule``)."""

Missing = Literal["drop", "keep"]
"""What becomes of a row whose picture is not there."""


class NameRule:
    """Makes the path of a row's picture.

    ``row`` is what img2dataset's ``files`` output has: ``00000/000000123.jpg`` for row 123, counted
    from 0 without a heading; each further file of a source starts at the next full 10,000, as a new
    folder starts there. ``md5`` and ``sha1`` are the hash of the address in UTF-8, ``HASH.jpg``.
    ``basename`` is what follows the last slash of the address. Anything else is a template of
    Python's ``str.format`` with ``row``, ``shard`` (the row's number divided by 10,000), ``md5``,
    ``sha1``, ``basename``, and ``image``, the column of a manifest.

    Args:
        names: The rule, as ``check_names`` lets it through.
    """

    def __init__(self, names: str) -> None:
        self.names = names
        templates = {
            "row": "{shard:05d}/{row:09d}.jpg",
            "md5": "{md5}.jpg",
            "sha1": "{sha1}.jpg",
            "basename": "{basename}",
        }
        self._template = templates.get(names, names)
        self._used = {field for _, field, _, _ in Formatter().parse(self._template) if field}

    @property
    def may_clash(self) -> bool:
        """Whether two addresses may get the same name."""
        return not self._used & {"row", "md5", "sha1", "image"}

    def of(self, *, row: int = 0, url: str = "", image: str = "") -> str:
        """Name the picture of a row.

        Args:
            row: Its number, from 0.
            url: Its address.
            image: Its column of pictures, where the table has one.

        Returns:
            A relative path, not checked yet.
        """
        values: dict[str, int | str] = {"row": row, "shard": row // ROWS_OF_A_SHARD, "image": image}
        for name in self._used & {"md5", "sha1"}:
            data = url.encode("utf-8", "surrogatepass")
            values[name] = hashlib.new(name, data, usedforsecurity=False).hexdigest()
        if "basename" in self._used:
            values["basename"] = basename(url)
        return self._template.format(**values)


def basename(url: str) -> str:
    """Give what follows the last slash of an address.

    Args:
        url: The address.

    Returns:
        The name, empty where the address has none.
    """
    try:
        return urlsplit(url).path.rpartition("/")[2]
    except ValueError:  # a bracket that no host name has
        return ""


def inside(name: str) -> bool:
    """Tell whether a path names a file below the folder it starts from, on any system.

    Args:
        name: A path.

    Returns:
        False for absolute paths, drives, ``..``, NUL, and what no file name can be.
    """
    if not name or "\0" in name or PurePosixPath(name).is_absolute():
        return False
    windows = PureWindowsPath(name)
    if windows.anchor or ".." in windows.parts:
        return False
    return all(not "\ud800" <= mark <= "\udfff" for mark in name)
