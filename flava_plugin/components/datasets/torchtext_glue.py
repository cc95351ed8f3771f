"""Sentences and pairs of sentences of GLUE and its like, as ``torchtext.datasets`` has them."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from flava_plugin import durable
from flava_plugin.components.torchtext_library import (
    HOW,
    Archive,
    archives,
    read_rows,
    why_there_are_no_datasets,
)
from flava_plugin.schema import InputPath
from flava_plugin.types import Sample

Task = Literal["sst2", "cola", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "ag_news"]
Split = Literal["train", "dev", "dev_matched", "dev_mismatched", "test"]

log = logging.getLogger(__name__)


class _Columns(NamedTuple):
    """Where torchtext puts what: columns of a labelled row, and the label that becomes 0."""

    texts: tuple[int, ...]
    label: int
    lowest: int = 0


_COLUMNS: dict[Task, _Columns] = {
    "sst2": _Columns((0,), 1),
    "cola": _Columns((2,), 1),
    "mrpc": _Columns((1, 2), 0),
    "qqp": _Columns((1, 2), 0),
    "stsb": _Columns((2, 3), 1),
    "mnli": _Columns((1, 2), 0),
    "qnli": _Columns((1, 2), 0),
    "rte": _Columns((1, 2), 0),
    "ag_news": _Columns((1,), 0, lowest=1),
}


def _needs_torchtext(path: Path) -> Path:
    """Refuse the recipe, before anything is built, where torchtext's datasets do not load."""
    if (why := why_there_are_no_datasets()) is not None:
        raise ValueError(f"{why}; {HOW}")
    return path


Root = Annotated[InputPath, AfterValidator(_needs_torchtext)]


def torchtext_sentences(
    *, path: Root, task: Task, split: Split = "train", download: bool = False
) -> TorchtextSentences:
    """Sentences with labels of GLUE tasks and AG News, by ``torchtext.datasets``; needs torch 2.3.

    The second sentence of a pair is the sample's second text, so that both are read as
    ``[CLS] A [SEP] B [SEP]``. The label is a class from 0, for ``stsb`` a score of 0 to 5; test
    splits that come without labels have none. As torchtext has them, ``cola`` splits GLUE's dev set
    into dev and test, and ``mrpc`` and ``qqp`` have no dev.

    Args:
        path: Folder of the archives, as torchtext's cache has them: ``datasets/SST2/SST-2.zip``.
            Nothing is written there, unless by ``download``.
        task: The task.
        split: The split; ``mnli`` has ``dev_matched`` and ``dev_mismatched``.
        download: Whether an archive that is missing is fetched from where torchtext knows it.

    Returns:
        The dataset, held in memory; ``extra`` has ``label``.

    Raises:
        ValueError: There is no such split, or the archive is missing or another; the text says
            which file is to be put where.
    """
    known = archives(task)
    if split not in known:
        raise ValueError(f"torchtext's {task} has no split '{split}', only {', '.join(known)}")
    archive = known[split]
    rows = _rows(path, task, split, archive, download=download)
    if len(rows) != archive.rows:
        log.warning(
            "%s: torchtext reads %d rows of split %s and states %d",
            path / archive.path,
            len(rows),
            split,
            archive.rows,
        )
    return TorchtextSentences(rows, task)


class TorchtextSentences:
    """Rows of a split.

    Args:
        rows: As torchtext reads them.
        task: The task, which says what is in which column.

    Raises:
        ValueError: There is no row.
    """

    def __init__(self, rows: list[tuple[Any, ...]], task: Task) -> None:
        if not rows:
            raise ValueError(f"torchtext's {task} holds no row; is the archive whole?")
        self._rows = rows
        self._columns = _COLUMNS[task]
        self._labelled = len(rows[0]) > len(self._columns.texts)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int, /) -> Sample:
        """Read a row.

        Args:
            index: Of the row.

        Returns:
            The sentence, or both of a pair, and the label where there is one.
        """
        extra = {}
        if self._labelled:
            extra["label"] = self._rows[index][self._columns.label] - self._columns.lowest
        first, *second = self._texts(index)
        return Sample(text=first, second_text=second[0] if second else None, extra=extra)

    def read_text(self, index: int, /) -> str:
        """Read a row's text.

        Args:
            index: Of the row.

        Returns:
            The sentence, the first of a pair.
        """
        return self._texts(index)[0]

    def text_sizes(self, indices: NDArray[np.int64], /) -> NDArray[np.int64]:
        """Measure texts, for batches of like lengths.

        Args:
            indices: (n,) of rows.

        Returns:
            (n,) bytes of each text, or of both together.
        """
        sizes = [sum(len(text.encode()) for text in self._texts(n)) for n in indices.tolist()]
        return np.array(sizes, dtype=np.int64)

    def _texts(self, index: int) -> list[str]:
        row = self._rows[index]
        texts = [row[at] for at in self._columns.texts] if self._labelled else row
        return [text.strip() for text in texts]


def _rows(
    root: Path, task: Task, split: str, archive: Archive, *, download: bool
) -> list[tuple[Any, ...]]:
    """Let torchtext read a split in a folder of its own, where the archive is put beforehand.

    torchtext trusts what it once extracted, also where that was cut short, and leaves files
    behind where it fails; and several processes of a run read at once.
    """
    file = root / archive.path
    with tempfile.TemporaryDirectory(prefix="flava-torchtext-") as folder:
        link = Path(folder) / archive.path
        link.parent.mkdir(parents=True)
        if file.is_file():
            _check(file, archive)
            link.symlink_to(file.resolve())
            return read_rows(task, split, Path(folder))
        if not download:
            raise ValueError(
                f"{file}: no such file; put {archive.url} there (md5 {archive.md5}), or say "
                "download: true"
            )
        rows = read_rows(task, split, Path(folder))
        _keep(link, file)
        return rows


def _check(file: Path, archive: Archive) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as content:
        while piece := content.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() != archive.md5:
        raise ValueError(
            f"{file}: is another file than torchtext reads (md5 {digest.hexdigest()}, not "
            f"{archive.md5}); remove it and put {archive.url} there"
        )


def _keep(fetched: Path, file: Path) -> None:
    """Copy a downloaded archive to its place; another process may do the same."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=durable.TEMPORARY, dir=file.parent) as beside:
        copy = Path(shutil.copyfile(fetched, Path(beside) / file.name))
        durable.sync(copy)
        copy.replace(file)
    durable.sync(file.parent)
