"""Records of a layout -> a dataset, with account of everything that was left out."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from flava_plugin.data.layouts.captioned import Captioned, Columns
from flava_plugin.data.layouts.picture_folder import PictureFolder
from flava_plugin.data.layouts.picture_names import Missing, inside
from flava_plugin.data.layouts.record import FAULTS, Dropped, Record

logger = logging.getLogger(__name__)

ALWAYS_ALLOWED = 10
"""Broken lines that any file may have."""

_FIRST_JUDGED = 10_000
_EXAMPLES = 3


class Account:
    """Counts what a source gave and what was left out of it.

    Args:
        what: The source, for messages.
        broken_lines: Share of the lines that may be broken; ten may be anyway.
    """

    def __init__(self, what: str, broken_lines: float) -> None:
        self.what = what
        self.broken_lines = broken_lines
        self.seen = 0
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def drop(self, reason: str, where: str) -> None:
        """Count a line that is left out.

        Args:
            reason: Why.
            where: File and line.

        Raises:
            ValueError: Too many lines are broken.
        """
        self.dropped[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(where)
            if reason in FAULTS:
                logger.warning("%s: left out: %s", where, reason)
        if reason in FAULTS and self.seen >= _FIRST_JUDGED:
            self.judge()

    def judge(self) -> None:
        """Refuse a source of which too much is broken.

        Raises:
            ValueError: It is; the text names lines.
        """
        broken = sum(self.dropped[reason] for reason in FAULTS)
        allowed = max(ALWAYS_ALLOWED, int(self.broken_lines * self.seen))
        if broken > allowed:
            named = [
                f"{place} ({reason})"
                for reason, places in self.examples.items()
                if reason in FAULTS
                for place in places
            ]
            raise ValueError(
                f"{self.what}: {broken} of {self.seen} lines are broken, more than the "
                f"{allowed} that broken_lines allows: {'; '.join(named[:5])}; mend the file or "
                "raise broken_lines"
            )

    def coverage(self, kept: int, **more: Any) -> dict[str, Any]:
        """Sum up.

        Args:
            kept: How many samples there are.
            **more: Further numbers.

        Returns:
            Numbers by name, for JSON: ``samples``, ``dropped`` by reason, ``examples`` of places.
        """
        return {
            "samples": kept,
            **more,
            "dropped": dict(sorted(self.dropped.items())),
            "examples": {reason: places for reason, places in sorted(self.examples.items())},
        }

    def log(self, kept: int) -> None:
        """Tell what was kept and left out.

        Args:
            kept: How many samples there are.
        """
        out = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
        logger.info("%s: %d samples; left out: %s", self.what, kept, out or "none")


def gather(
    entries: Iterable[Record | Dropped],
    images: Path,
    *,
    what: str,
    missing: Missing = "drop",
    broken_lines: float = 0.001,
) -> Captioned:
    """Collect the records of a layout.

    Space in captions is reduced to single blanks. Names that lead out of the folder, and captions
    that no UTF-8 text can hold, count as broken lines.

    Args:
        entries: What the layout's reader gives.
        images: Folder of the pictures.
        what: The source, for messages.
        missing: What becomes of records without a picture: left out and counted here, or kept and
            replaced when they are read, against the recipe's ``bad_samples``.
        broken_lines: Share of broken lines that is put up with; ten are anyway.

    Returns:
        The dataset; its ``coverage`` says what was left out.

    Raises:
        ValueError: Too many lines are broken, there is no folder of pictures, or no record is left.
    """
    if not images.is_dir():
        raise ValueError(f"{images}: no such folder; set images: to the folder of the pictures")
    folder, account = PictureFolder(images), Account(what, broken_lines)
    texts, paths = bytearray(), bytearray()
    text_ends, path_ends, runs, pictures = array("Q"), array("Q"), array("I"), array("q")
    last: str | None = None
    absent = 0
    for entry in entries:
        account.seen += 1
        if isinstance(entry, Dropped):
            account.drop(*entry)
            continue
        name, fault = _place(entry, folder, missing)
        if fault is not None:
            account.drop(fault, f"{entry.where}: {name!r}")
            continue
        caption = " ".join(entry.text.split())
        if not caption:
            account.drop("empty text", entry.where)
            continue
        try:
            raw = caption.encode("utf-8")
        except UnicodeEncodeError as error:
            account.drop("text is not UTF-8", f"{entry.where}: half a surrogate pair ({error})")
            continue
        if b"\0" in raw:
            account.drop("broken line", f"{entry.where}: a NUL in the text")
            continue
        if name != last:
            paths += name.encode("utf-8")
            path_ends.append(len(paths))
            pictures.append(_number(entry.picture, name))
            last = name
        texts += raw
        text_ends.append(len(texts))
        runs.append(len(path_ends) - 1)
        absent += missing == "keep" and not folder.has(name)
    account.judge()
    if not text_ends:
        raise ValueError(_nothing(account, images))
    if absent:
        logger.warning("%s: %d samples have no picture and will be replaced", what, absent)
    account.log(len(text_ends))
    columns = Columns(
        np.frombuffer(texts, np.uint8),
        np.frombuffer(text_ends, np.uint64),
        np.frombuffer(runs, np.uint32),
        np.frombuffer(paths, np.uint8),
        np.frombuffer(path_ends, np.uint64),
        np.frombuffer(pictures, np.int64),
    )
    more = {"without_picture": absent} if absent else {}
    coverage = account.coverage(len(text_ends), pictures=len(set(pictures)), **more)
    return Captioned(columns, images, coverage)


def number_of(name: str) -> int:
    """Make a number of a picture's path, the same everywhere.

    Args:
        name: The path.

    Returns:
        63 bits of its hash: two of a hundred million share one with a chance of 1 in 2,000.
    """
    digest = hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _number(given: int | None, name: str) -> int:
    """A layout's own number of a picture, where it has one that 63 bits hold."""
    return given if given is not None and 0 <= given < 2**63 else number_of(name)


def _place(record: Record, folder: PictureFolder, missing: Missing) -> tuple[str, str | None]:
    """Where a record's picture lies, and why it is left out or None."""
    names = (record.image, *record.others)
    for name in names:
        if not inside(name):
            return name, "unsafe name"
    if len(names) > 1 or missing == "drop":
        found = next((name for name in names if folder.has(name)), None)
        if found is not None:
            return found, None
        if missing == "drop":
            return record.image, "no picture"
    return record.image, None


def _nothing(account: Account, images: Path) -> str:
    if not account.dropped:
        return f"{account.what}: holds no captions"
    reasons = [
        f"{count} x {reason} ({account.examples[reason][0]})"
        for reason, count in account.dropped.most_common(4)
    ]
    hint = f"; pictures are looked for in {images}" if account.dropped["no picture"] else ""
    return f"{account.what}: no sample is left: {', '.join(reasons)}{hint}"
