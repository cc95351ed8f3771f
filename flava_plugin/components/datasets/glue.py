"""GLUE's eight tasks as they are unpacked, or as Hugging Face's parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flava_plugin.data.class_labels import ClassLabels, number_of
from flava_plugin.data.labelled_rows import LabelledRow, LabelledRows, collect
from flava_plugin.data.layouts.lines import lines
from flava_plugin.data.layouts.named_rows import NamedRow, named_rows
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.tables import ParquetTable
from flava_plugin.schema import InputPath, Share

GlueTask = Literal["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"]
GlueSplit = Literal[
    "train", "dev", "dev_matched", "dev_mismatched", "test", "test_matched", "test_mismatched"
]


class _Layout(NamedTuple):
    """A task's folder, headings of its texts and label, and classes in GLUE's order."""

    folder: str
    texts: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    parquet: tuple[str, ...]


_ENTAILED = ("entailment", "not_entailment")
_LAYOUTS: dict[str, _Layout] = {
    "cola": _Layout("CoLA", ("sentence",), "label", ("unacceptable", "acceptable"), ("sentence",)),
    "sst2": _Layout("SST-2", ("sentence",), "label", ("negative", "positive"), ("sentence",)),
    "mrpc": _Layout(
        "MRPC",
        ("#1 String", "#2 String"),
        "Quality",
        ("not_equivalent", "equivalent"),
        ("sentence1", "sentence2"),
    ),
    "qqp": _Layout(
        "QQP",
        ("question1", "question2"),
        "is_duplicate",
        ("not_duplicate", "duplicate"),
        ("question1", "question2"),
    ),
    "stsb": _Layout("STS-B", ("sentence1", "sentence2"), "score", (), ("sentence1", "sentence2")),
    "mnli": _Layout(
        "MNLI",
        ("sentence1", "sentence2"),
        "gold_label",
        ("entailment", "neutral", "contradiction"),
        ("premise", "hypothesis"),
    ),
    "qnli": _Layout("QNLI", ("question", "sentence"), "label", _ENTAILED, ("question", "sentence")),
    "rte": _Layout(
        "RTE", ("sentence1", "sentence2"), "label", _ENTAILED, ("sentence1", "sentence2")
    ),
}
_COLA = ("source", "label", "notation", "sentence")


def glue(
    *,
    path: InputPath,
    task: GlueTask,
    split: GlueSplit = "train",
    mismatched: bool = False,
    broken_lines: Share = 0.001,
) -> LabelledRows:
    """GLUE (Wang et al. 2019): ``CoLA/train.tsv`` and so on; quotes mean nothing in its tables.

    FLAVA reports eight tasks on their dev sets, without WNLI (arXiv 2112.04482, table 4). ``mnli``
    has ``dev_matched`` (also called ``dev`` here) and ``dev_mismatched``; the paper's figure is the
    mean of both. ``stsb`` has a score of 0 to 5. Rows of two sentences have the second one in
    ``second_text``. CoLA's files for training have no headings. ``mrpc`` is read from
    ``{train,dev,test}.tsv``, or from ``msr_paraphrase_{train,test}.txt`` with GLUE's list
    ``dev_ids.tsv`` (``mrpc_dev_ids.tsv``), which says what of train is dev. Hugging Face's parquet
    lies in ``mrpc/train-*.parquet`` and so on, its dev called ``validation``.

    Args:
        path: The folder of all tasks, or the task's own.
        task: The task.
        split: The split; test comes without labels.
        mismatched: Take ``mnli``'s ``dev`` and ``test`` of other genres than train's.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset; ``extra`` has ``label``, a class of ``class_names``, or a score for ``stsb``.

    Raises:
        ValueError: There is no such file, a column is missing, or no row is left.
    """
    layout = _LAYOUTS[task]
    name: str = split
    if split in ("dev", "test") and task == "mnli":
        name = f"{split}_{'mismatched' if mismatched else 'matched'}"
    if task != "mnli" and ("matched" in split or mismatched):
        asked = "mismatched sets" if mismatched else f"split '{split}'"
        raise ValueError(f"{task} has no {asked}, only train, dev and test")
    folder = next((path / own for own in (layout.folder, task) if (path / own).is_dir()), path)
    about, labelled = "", not name.startswith("test")
    parquet = sorted(folder.glob(f"{name.replace('dev', 'validation')}-*.parquet"))
    if parquet:
        rows = _parquet(parquet, layout)
    elif task == "mrpc" and not (folder / f"{name}.tsv").is_file():
        rows, about = _raw_mrpc(folder, split)
        labelled = True
    else:
        table = folder / f"{name}.tsv"
        if not table.is_file():
            raise ValueError(
                f"{table}: no such file, nor {name.replace('dev', 'validation')}-*.parquet; unpack "
                f"GLUE's {layout.folder} there"
            )
        bare = _COLA if task == "cola" and labelled else None
        wanted = (*layout.texts, layout.label) if labelled else layout.texts
        rows = named_rows(table, () if bare else wanted, bare)
    entries = _entries(rows, layout, labelled=labelled)
    return collect(
        entries,
        what=f"{folder} ({task}, {split})",
        broken_lines=broken_lines,
        class_names=layout.classes,
        about=about,
    )


def _entries(
    rows: Iterator[NamedRow | Dropped], layout: _Layout, *, labelled: bool
) -> Iterator[LabelledRow | Dropped]:
    classes = ClassLabels(layout.classes)
    for row in rows:
        if isinstance(row, Dropped):
            yield row
            continue
        texts = [str(row.values[name] or "").strip() for name in layout.texts]
        label: float | Dropped | None = None
        if labelled:
            value = row.values[layout.label]
            label = classes.of(value, row.where) if layout.classes else number_of(value, row.where)
        if isinstance(label, Dropped):
            yield label
            continue
        second = texts[1] if len(texts) == 2 else None
        labels = {} if label is None else {"label": label}
        yield LabelledRow(row.where, texts[0], second, labels=labels)


def _parquet(files: list[Path], layout: _Layout) -> Iterator[NamedRow | Dropped]:
    """Hugging Face's rows by the headings of GLUE's own tables; -1 is the label of a test row."""
    table = ParquetTable(files, [*layout.parquet, "label"])
    for index in range(len(table)):
        row = table.row(index)
        values: dict[str, Any] = dict(
            zip(layout.texts, (row[name] for name in layout.parquet), strict=True)
        )
        label = None if row["label"] == -1 else row["label"]
        yield NamedRow(table.where(index), {**values, layout.label: label})


def _raw_mrpc(folder: Path, split: str) -> tuple[Iterator[NamedRow | Dropped], str]:
    """MRPC as Microsoft publishes it, whose train is GLUE's train and dev."""
    table = folder / f"msr_paraphrase_{'test' if split == 'test' else 'train'}.txt"
    if not table.is_file():
        raise ValueError(f"{folder}: neither {split}.tsv nor {table.name}; unpack MRPC there")
    rows = named_rows(table, ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"))
    if split == "test":
        return rows, ""
    found = [folder / name for name in ("dev_ids.tsv", "mrpc_dev_ids.tsv")]
    listed = next((file for file in found if file.is_file()), None)
    if listed is None:
        if split == "train":
            return rows, f"{table.name} whole: without dev_ids.tsv, GLUE's dev is part of it"
        raise ValueError(
            f"{folder}: {table.name} alone has no dev; put GLUE's dev_ids.tsv beside it"
        )
    ids = {
        tuple(line.text.split("\t")[:2]) for line in lines(listed) if not isinstance(line, Dropped)
    }
    return _of_ids(rows, ids, dev=split == "dev"), ""


def _of_ids(
    rows: Iterator[NamedRow | Dropped], ids: set[tuple[str, ...]], *, dev: bool
) -> Iterator[NamedRow | Dropped]:
    for row in rows:
        if isinstance(row, Dropped):
            yield row
            continue
        listed = (row.values["#1 ID"], row.values["#2 ID"]) in ids
        yield row if listed == dev else Dropped("other split", row.where)
