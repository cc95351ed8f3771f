"""Labelled rows of a task: pictures by path, one or two texts, labels; with account of the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.data.columns import Column, Numbers, Scores, Strings, column_of
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts.gathering import Account
from flava_plugin.data.layouts.picture_folder import PictureFolder
from flava_plugin.data.layouts.picture_names import Missing, inside
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.types import Sample


class LabelledRow(NamedTuple):
    """A row as a layout's reader gives it.

    Attributes:
        where: File and line, for messages.
        text: The text, or None where the data has pictures alone.
        second: What is read after it, or None.
        image: Path of the picture below the folder of pictures, with ``/``; None for no picture.
        others: Further places where the picture may lie, tried in order.
        labels: By name, each a number or a word; ``{class: score}`` for several at once. Every row
            has the same.
        aside: What the reader wants back of the rows that are kept (``collect``'s ``then``).
    """

    where: str
    text: str | None = None
    second: str | None = None
    image: str | None = None
    others: tuple[str, ...] = ()
    labels: Mapping[str, Any] = {}
    aside: Any = None


class LabelledRows:
    """Rows of a split, about their bytes of memory.

    Args:
        rows: What the layout's reader kept, at least one.
        images: Folder that the pictures' paths start from, or None.
        class_names: Names of the classes, empty where labels are no classes.
        coverage: What was found and what was left out, for the run's record.
        about: What a reader of the results has to know about the split, or nothing.
        widths: Classes of labels given as ``{class: score}``, by name.
    """

    def __init__(
        self,
        rows: Sequence[LabelledRow],
        images: Path | None = None,
        *,
        class_names: Sequence[str] = (),
        coverage: Mapping[str, Any] | None = None,
        about: str = "",
        widths: Mapping[str, int] | None = None,
    ) -> None:
        self.images = images
        self.class_names = tuple(class_names)
        self.coverage = dict(coverage or {})
        self.about = about
        self._length = len(rows)
        self._image = _texts([row.image for row in rows])
        self._text = _texts([row.text for row in rows])
        self._second = _texts([row.second for row in rows])
        self._labels: dict[str, Column] = {}
        for name in rows[0].labels:
            values = [row.labels[name] for row in rows]
            width = (widths or {}).get(name)
            self._labels[name] = column_of(values) if width is None else Scores(values, width)
        self.kind = "image" if self._text is None else "text" if self._image is None else "pair"

    def __len__(self) -> int:
        return self._length

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; they change with the rows, their order and the classes."""
        digest = hashlib.blake2b("\0".join(self.class_names).encode("utf-8"), digest_size=8)
        columns = [self._image, self._text, self._second]
        for column in [*columns, *(self._labels[name] for name in sorted(self._labels))]:
            for values in column.arrays() if column is not None else ():
                digest.update(values.tobytes())
        return digest.hexdigest()

    def read(self, index: int, /) -> Sample:
        """Read a row; its picture is opened, and decoded where it is used.

        Args:
            index: Of the row.

        Returns:
            The row, its labels in ``extra``.

        Raises:
            OSError: The file is no picture.
            DamagedSampleError: It is not there.
        """
        index = range(len(self))[index]
        picture = None
        if self._image is not None:
            picture = open_picture(self.path(index))
        return Sample(
            picture,
            None if self._text is None else self._text.at(index),
            extra={name: column.at(index) for name, column in self._labels.items()},
            second_text=None if self._second is None else self._second.at(index),
        )

    def read_text(self, index: int, /) -> str | None:
        """Read a row's first text alone.

        Args:
            index: Of the row.

        Returns:
            The text, or None where the data has none.
        """
        return None if self._text is None else self._text.at(range(len(self))[index])

    def text_sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Measure texts, for batches of like lengths.

        Args:
            indices: Of rows.

        Returns:
            Bytes of both texts of each.
        """
        sizes = np.zeros(len(indices), np.int64)
        for column in (self._text, self._second):
            sizes += 0 if column is None else column.sizes(indices)
        return sizes

    def path(self, index: int) -> Path:
        """Tell where a picture lies.

        Args:
            index: Of the row.

        Returns:
            Its file.
        """
        assert self._image is not None and self.images is not None, "these rows have no pictures"
        return self.images / self._image.at(index)

    def files(self) -> Iterator[Path]:
        """Files that the samples are read from besides the table, which is held in memory.

        Yields:
            Path: The picture of each row, if rows have any.
        """
        if self._image is not None:
            yield from (self.path(index) for index in range(len(self)))

    def labels(self, name: str) -> NDArray[Any]:
        """Give a label of all rows, without reading any picture.

        Args:
            name: Its name in ``extra``.

        Returns:
            (N,) numbers, or (N, K) scores.
        """
        column = self._labels[name]
        if isinstance(column, Numbers):
            return column.values
        return np.array([column.at(index) for index in range(len(self))])


def open_picture(path: Path) -> Image.Image:
    """Open a picture, not decoded yet.

    Args:
        path: Its file.

    Returns:
        The picture.

    Raises:
        DamagedSampleError: There is no such file.
        OSError: It is no picture.
    """
    try:
        return Image.open(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedSampleError("no picture", f"{path}: {error.strerror}") from error


def collect(
    entries: Iterable[LabelledRow | Dropped],
    images: Path | None = None,
    *,
    what: str,
    missing: Missing = "drop",
    broken_lines: float = 0.001,
    class_names: Sequence[str] = (),
    about: str = "",
    widths: Mapping[str, int] | None = None,
    then: Callable[[LabelledRow], None] | None = None,
) -> LabelledRows:
    """Collect the rows of a split; what is left out is counted by its reason.

    Args:
        entries: What the layout's reader gives.
        images: Folder of the pictures, or None where there are none.
        what: The split, for messages.
        missing: What becomes of rows without their picture (``gathering.gather``).
        broken_lines: Share of broken lines that is put up with; ten are anyway.
        class_names: Names of the classes.
        about: What a reader of the results has to know about the split.
        widths: Classes of labels given as ``{class: score}``, by name.
        then: Called with each row that is kept, in order.

    Returns:
        The rows; ``coverage`` says what was left out.

    Raises:
        ValueError: Too many lines are broken, there is no folder of pictures, or no row is left.
    """
    if images is not None and not images.is_dir():
        raise ValueError(f"{images}: no such folder; put the pictures there")
    folder = None if images is None else PictureFolder(images)
    account, rows = Account(what, broken_lines), []
    for entry in entries:
        account.seen += 1
        if isinstance(entry, Dropped):
            account.drop(*entry)
            continue
        row, out = _checked(entry, folder, missing)
        if out is not None:
            account.drop(*out)
        else:
            rows.append(row._replace(aside=None))
            if then is not None:
                then(row)
    account.judge()
    if not rows:
        reasons = [f"{n} x {r} ({account.examples[r][0]})" for r, n in account.dropped.items()]
        raise ValueError(f"{what}: no row is left: {', '.join(reasons) or 'it is empty'}")
    account.log(len(rows))
    coverage = account.coverage(len(rows))
    return LabelledRows(
        rows, images, class_names=class_names, coverage=coverage, about=about, widths=widths
    )


def _checked(
    row: LabelledRow, folder: PictureFolder | None, missing: Missing
) -> tuple[LabelledRow, Dropped | None]:
    """The row with its picture found, and why it is left out or None."""
    if row.text is not None and not row.text.strip():
        return row, Dropped("empty text", row.where)
    for text in (row.text, row.second):
        if text is not None and any("\ud800" <= mark <= "\udfff" for mark in text):
            return row, Dropped("text is not UTF-8", f"{row.where}: half a surrogate pair")
    if folder is None or row.image is None:
        return row, None
    names = (row.image, *row.others)
    for name in names:
        if not inside(name):
            return row, Dropped("unsafe name", f"{row.where}: {name!r}")
    found = next((name for name in names if folder.has(name)), None)
    if found is None and missing == "drop":
        return row, Dropped("no picture", f"{row.where}: {folder.path / row.image}")
    return row._replace(image=found or row.image), None


def _texts(values: list[str | None]) -> Strings | None:
    """A column, or None where every row has none; a row without one among others has an empty."""
    if all(value is None for value in values):
        return None
    return Strings(value or "" for value in values)
