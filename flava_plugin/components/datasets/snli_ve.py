"""SNLI-VE: pictures of Flickr30k with hypotheses about them."""

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

LABELS = ("entailment", "neutral", "contradiction")
"""In MMF's order, which FLAVA was fine-tuned in."""

_PICTURE = ("Flikr30kID", "Flickr30kID", "Flickr30K_ID")  # the first is the published spelling


def snli_ve(
    *,
    path: InputPath,
    images: InputPath | None = None,
    split: Literal["train", "dev", "test"] = "train",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> LabelledRows:
    """SNLI-VE (Xie et al. 2019): ``snli_ve_train.jsonl`` and so on, and the pictures of Flickr30k.

    The text is the hypothesis, ``sentence2``. Rows without agreement, whose ``gold_label`` is
    ``-``, are left out and counted.

    Args:
        path: Folder of the three files.
        images: Folder of the pictures, called by Flickr's number; null takes ``flickr30k-images``
            beside the files.
        split: The split.
        missing: A row whose picture is not there: ``drop`` leaves it out and counts it, ``keep``
            replaces it when it is read, against ``data.bad_samples``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset; ``extra`` has ``label``: 0 entailment, 1 neutral, 2 contradiction.

    Raises:
        ValueError: There is no such file, or no row is left.
    """
    table = path / f"snli_ve_{split}.jsonl"
    return collect(
        _rows(table),
        images or path / "flickr30k-images",
        what=str(table),
        missing=missing,
        broken_lines=broken_lines,
        class_names=LABELS,
    )


def _rows(table: Path) -> Iterator[LabelledRow | Dropped]:
    classes = ClassLabels(LABELS)
    for line in json_lines(table):
        if isinstance(line, Dropped):
            yield line
            continue
        name = next((str(line.row[key]) for key in _PICTURE if key in line.row), None)
        text, value = line.row.get("sentence2"), line.row.get("gold_label")
        if name is None or not isinstance(text, str):
            yield Dropped("broken line", f"{line.where}: no 'Flikr30kID' or no 'sentence2'")
            continue
        label = Dropped("no label", line.where) if value == "-" else classes.of(value, line.where)
        if isinstance(label, Dropped):
            yield label
            continue
        image = f"{name.removesuffix('.jpg')}.jpg"
        yield LabelledRow(line.where, text, image=image, labels={"label": label})
