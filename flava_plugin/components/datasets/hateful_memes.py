"""Hateful Memes: pictures with the words that stand in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from flava_plugin.data.class_labels import ClassLabels
from flava_plugin.data.labelled_rows import LabelledRow, LabelledRows, collect
from flava_plugin.data.layouts.lines import json_lines
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.schema import InputPath, Share

MemeSplit = Literal["train", "dev", "test", "dev_seen", "dev_unseen", "test_seen", "test_unseen"]
LABELS = ("not hateful", "hateful")


def hateful_memes(
    *,
    path: InputPath,
    split: MemeSplit = "train",
    images: InputPath | None = None,
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> LabelledRows:
    """Hateful Memes (Kiela et al. 2020): ``train.jsonl`` and so on, and ``img``.

    Args:
        path: Folder of the files.
        split: The split; ``dev`` and ``test`` are ``dev_seen`` and ``test_seen`` where the release
            has these.
        images: Folder that ``img`` of the rows starts from; null takes ``path``.
        missing: A row whose picture is not there: ``drop`` leaves it out and counts it, ``keep``
            replaces it when it is read, against ``data.bad_samples``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset; ``extra`` has ``id``, and ``label`` (1 is hateful) unless the split has none.

    Raises:
        ValueError: There is no such file, only some rows have labels, or no row is left.
    """
    names = (f"{split}_seen", split) if split in ("dev", "test") else (split,)
    found = next((path / f"{n}.jsonl" for n in names if (path / f"{n}.jsonl").is_file()), None)
    table = found or path / f"{split}.jsonl"
    return collect(
        _rows(table),
        images or path,
        what=str(table),
        missing=missing,
        broken_lines=broken_lines,
        class_names=LABELS,
    )


def _rows(table: Path) -> Iterator[LabelledRow | Dropped]:
    classes = ClassLabels(LABELS)
    labelled: bool | None = None  # as the first sound row is
    for line in json_lines(table):
        if isinstance(line, Dropped):
            yield line
            continue
        image, text, number = (line.row.get(key) for key in ("img", "text", "id"))
        whole = str(number).strip()
        if not isinstance(image, str) or not isinstance(text, str) or not whole.isdecimal():
            yield Dropped("broken line", f"{line.where}: no 'img', no 'text' or no number 'id'")
            continue
        labelled = "label" in line.row if labelled is None else labelled
        labels = {"id": int(whole)}
        if labelled:
            label = classes.of(line.row.get("label"), line.where)
            if isinstance(label, Dropped):
                yield label
                continue
            labels["label"] = label
        yield LabelledRow(line.where, text, image=image, labels=labels)
