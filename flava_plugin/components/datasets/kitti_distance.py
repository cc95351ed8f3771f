"""KITTI distance: how far away the nearest vehicle is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from flava_plugin.data.labelled_rows import LabelledRow, LabelledRows, collect
from flava_plugin.data.layouts.lines import lines
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.split_choice import SplitRule, drawn_rows, listed_rows
from flava_plugin.schema import InputPath, Share

CLASSES = ("within 8 m", "8 to 20 m", "beyond 20 m", "no vehicle")
_EDGES = (-100.0, 8.0, 20.0, 999.0)  # VTAB's thresholds in metres (Zhai et al. 2019), kitti.py
_VEHICLES = ("Car", "Van", "Truck")
_RULE = SplitRule(6_770, 711)  # CLIP's sizes (Radford et al. 2021, table 9)


def kitti_distance(
    *,
    path: InputPath,
    split: Literal["train", "test"] = "train",
    splits: InputPath | None = None,
    broken_lines: Share = 0.001,
) -> LabelledRows:
    """KITTI's detection set with VTAB's four classes of the distance of the nearest vehicle.

    The distance is the smallest z of a car, van or truck. Which pictures VTAB measures on is fixed
    by a package that is not read here: name ``splits``, else a tenth is drawn by classes, the same
    everywhere, and ``about`` says so.

    Args:
        path: torchvision's root, with ``Kitti/raw/training/{image_2,label_2}``, or the folder of
            ``image_2`` and ``label_2``.
        split: ``train`` or ``test``.
        splits: Folder of ``train.txt`` and ``test.txt``: ``000123.png`` a line.
        broken_lines: Share of label files that may be broken; ten may be anyway.

    Returns:
        The dataset; ``extra`` has ``class``.

    Raises:
        ValueError: There is no such folder, or no picture is left.
    """
    inner = ("Kitti/raw/training", "raw/training", "training")
    folder = next((path / each for each in inner if (path / each).is_dir()), path)
    files = sorted(folder.glob("label_2/*.txt"))
    if not files:
        raise ValueError(f"{folder}: holds no label_2/*.txt; unpack data_object_label_2 there")
    read = [_row(file, folder) for file in files]
    rows = [row for row in read if isinstance(row, LabelledRow)]
    names = [str(row.image) for row in rows]
    if splits is not None:
        chosen, about = listed_rows(splits, split, names), f"split of {splits}"
    else:
        labels = np.array([row.labels["class"] for row in rows], dtype=np.int64)
        chosen = drawn_rows(labels, _RULE, split, "kitti_distance")
        about = f"split drawn by classes, {len(chosen)} of {len(rows)} samples"
    kept = set(chosen.tolist())

    def entries() -> Iterator[LabelledRow | Dropped]:
        yield from (row for row in read if isinstance(row, Dropped))
        for number, row in enumerate(rows):
            yield row if number in kept else Dropped("other split", row.where)

    return collect(
        entries(),
        folder / "image_2",
        what=f"{folder} ({split})",
        broken_lines=broken_lines,
        class_names=CLASSES,
        about=about,
    )


def _row(file: Path, folder: Path) -> LabelledRow | Dropped:
    nearest = 1000.0
    for line in lines(file):
        if isinstance(line, Dropped):
            if line.reason != "empty line":
                return line
            continue
        words = line.text.split()
        try:
            if len(words) < 14:
                raise ValueError(f"{len(words)} values, not 15")
            depth = float(words[13])
        except ValueError as error:
            return Dropped("broken line", f"{line.where}: {error}")
        if words[0] in _VEHICLES:
            nearest = min(nearest, depth)
    number = max(place for place, edge in enumerate(_EDGES) if edge < max(nearest, -99.0))
    return LabelledRow(str(file), image=f"{file.stem}.png", labels={"class": number})
