"""Labelled data of one's own: a table with pictures, texts and labels in columns of any name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from flava_plugin.data.class_labels import ClassLabels, names_in, number_of, read_names
from flava_plugin.data.labelled_rows import LabelledRow, LabelledRows, collect
from flava_plugin.data.layouts.named_rows import NamedRow, named_rows
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.schema import InputPath, Share

LabelKind = Literal["class", "number", "classes"]


def labelled_table(
    *,
    path: InputPath,
    split: str | None = None,
    label: str = "label",
    label_kind: LabelKind = "class",
    image: str | None = None,
    text: str | None = None,
    second_text: str | None = None,
    images: InputPath | None = None,
    classes: InputPath | None = None,
    split_column: str | None = None,
    separator: str = "|",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> LabelledRows:
    """Pictures, texts or both with a label, from JSON lines, CSV or TSV with headings.

    Classes have the same numbers in every split: they are those of ``classes``, else those found
    in the whole table, or in the ``train`` file of a folder.

    Args:
        path: ``*.jsonl``, ``*.csv`` (double quotes enclose values) or ``*.tsv`` (quotes mean
            nothing), which may be ``.gz``; or a folder of ``train.jsonl``, ``dev.jsonl`` and so on.
        split: Which file of a folder, or which value of ``split_column``; passed over where
            ``path`` is one file without such a column.
        label: Column of the label.
        label_kind: ``class``: a class by name or number; ``number``: a score; ``classes``: any
            number of classes, a list in JSON lines, else parted by ``separator``.
        image: Column of the picture's path; null where there are no pictures.
        text: Column of the text; null where there is none.
        second_text: Column of what is read after the text.
        images: Folder that paths of pictures start from; null takes the table's own.
        classes: File of the classes' names, one a line; null takes those of the data.
        split_column: Column that says which split a row is of.
        separator: What parts several classes.
        missing: A row whose picture is not there: ``drop`` leaves it out and counts it, ``keep``
            replaces it when it is read, against ``data.bad_samples``.
        broken_lines: Share of lines that may be broken, labels that are none among them; ten may
            be anyway.

    Returns:
        The dataset; ``extra`` has ``label``: a number, or for ``classes`` a 0 or 1 for each.

    Raises:
        ValueError: A file or column is missing, neither ``image`` nor ``text`` is named, too many
            lines are broken, or no row is left.
    """
    if image is None and text is None:
        raise ValueError(
            "labelled_table: name the column of the pictures (image:) or texts (text:)"
        )
    if second_text is not None and text is None:
        raise ValueError("labelled_table: second_text: follows a text; name its column (text:)")
    table = _table(path, split)
    named = [label, image, text, second_text, split_column]
    wanted = [name for name in named if name is not None]
    names: tuple[str, ...] = ()
    if label_kind != "number":
        source = table
        if path.is_dir() and split_column is None:
            source = _table(path, "train", otherwise=table)
        names = read_names(classes) if classes else _found(source, label, label_kind, separator)
        if not names:
            raise ValueError(f"{source}: column '{label}' holds no class; is it the right column?")
    reader = _Reader(label, label_kind, ClassLabels(names), separator, (image, text, second_text))
    chosen = (split_column, split) if split is not None and split_column is not None else None
    return collect(
        reader.rows(table, wanted, chosen),
        None if image is None else images or table.parent,
        what=str(table) if chosen is None else f"{table} (split {split})",
        missing=missing,
        broken_lines=broken_lines,
        class_names=names,
        widths={"label": len(names)} if label_kind == "classes" else None,
    )


class _Reader:
    """Rows of a table -> labelled rows."""

    def __init__(
        self,
        label: str,
        kind: LabelKind,
        classes: ClassLabels,
        separator: str,
        columns: tuple[str | None, str | None, str | None],
    ) -> None:
        self.label = label
        self.kind = kind
        self.classes = classes
        self.separator = separator
        self.columns = columns

    def rows(
        self, table: Path, wanted: list[str], chosen: tuple[str, str] | None
    ) -> Iterator[LabelledRow | Dropped]:
        for row in named_rows(table, wanted):
            if isinstance(row, Dropped):
                yield row
            elif chosen is not None and str(row.values[chosen[0]]).strip() != chosen[1]:
                yield Dropped("other split", f"{row.where}: {row.values[chosen[0]]!r}")
            else:
                yield self._row(row)

    def _row(self, row: NamedRow) -> LabelledRow | Dropped:
        label = self._label(row.values[self.label], row.where)
        if isinstance(label, Dropped):
            return label
        values = [None if name is None else row.values[name] for name in self.columns]
        for name, value in zip(self.columns, values, strict=True):
            if name is not None and not isinstance(value, str):
                found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]}"
                return Dropped("broken line", f"{row.where}: '{name}' is {found}, not a text")
        image, text, second = values
        return LabelledRow(row.where, text, second, image, labels={"label": label})

    def _label(self, value: Any, where: str) -> int | float | dict[int, float] | Dropped:
        if self.kind == "number":
            return number_of(value, where)
        if self.kind == "class":
            return self.classes.of(value, where)
        several: dict[int, float] = {}
        for name in _several(value, self.separator):
            number = self.classes.of(name, where)
            if isinstance(number, Dropped):
                return number
            several[number] = 1.0
        return several


def _several(value: Any, separator: str) -> list[Any]:
    """Classes of a cell; none is no fault, for a picture may show nothing of what is asked."""
    if isinstance(value, list):
        return value
    return [part for part in str("" if value is None else value).split(separator) if part.strip()]


def _found(table: Path, label: str, kind: LabelKind, separator: str) -> tuple[str, ...]:
    values: list[Any] = []
    seen: set[str] = set()
    for row in named_rows(table, [label]):
        if isinstance(row, Dropped):
            continue
        value = row.values[label]
        for each in _several(value, separator) if kind == "classes" else [value]:
            if str(each) not in seen:
                seen.add(str(each))
                values.append(each)
    return names_in(values)


def _table(path: Path, split: str | None, otherwise: Path | None = None) -> Path:
    """The table itself, or that of a split in a folder."""
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"{path}: no such file; give a table, or a folder of them")
        return path
    if split is None:
        raise ValueError(f"{path}: is a folder; say which of its tables by split:, such as train")
    ends = (".jsonl", ".csv", ".tsv")
    found = [path / f"{split}{end}{gz}" for end in ends for gz in ("", ".gz")]
    there = [file for file in found if file.is_file()]
    if len(there) > 1:
        raise ValueError(f"{path}: has both {there[0].name} and {there[1].name}; remove one")
    if there:
        return there[0]
    if otherwise is not None:
        return otherwise
    raise ValueError(f"{path}: has no {split}.jsonl, {split}.csv or {split}.tsv")
