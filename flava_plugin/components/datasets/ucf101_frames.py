"""UCF101 by a frame of each video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from flava_plugin.data.class_labels import ClassLabels
from flava_plugin.data.labelled_rows import LabelledRow, LabelledRows, collect
from flava_plugin.data.layouts.lines import lines
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.schema import InputPath, Share


def ucf101_frames(
    *,
    path: InputPath,
    split: Literal["train", "test"] = "train",
    lists: InputPath | None = None,
    fold: Literal[1, 2, 3] = 1,
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> LabelledRows:
    """UCF101 (Soomro et al. 2012) by the middle frame of each video, as CLIP takes it.

    Videos are not decoded here: write a frame of each first, such as with
    ``ffmpeg -ss HALF -i VIDEO.avi -frames:v 1 VIDEO.jpg``.

    Args:
        path: Folder of the frames, ``ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.jpg`` (or ``.png``).
        split: ``train`` or ``test``.
        lists: Folder of ``trainlist01.txt``, ``testlist01.txt`` and ``classInd.txt``; null takes
            ``path`` or its ``ucfTrainTestlist``.
        fold: Which of the three pairs of lists.
        missing: A video without a frame: ``drop`` leaves it out and counts it, ``keep`` replaces
            it when it is read, against ``data.bad_samples``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset; ``extra`` has ``class``, in the order of names, as in ``classInd.txt``.

    Raises:
        ValueError: There is no such list, or no frame is left.
    """
    inner = path / "ucfTrainTestlist"
    folder = lists or (inner if inner.is_dir() else path)
    # the classes of both lists, so that both splits number them alike
    known = folder / "classInd.txt"
    if known.is_file():
        names = [line.text.split()[-1] for line in lines(known) if not isinstance(line, Dropped)]
    else:
        both = [folder / f"{each}list{fold:02d}.txt" for each in ("train", "test")]
        found = {
            line.text.partition("/")[0].strip()
            for file in both
            for line in lines(file)
            if not isinstance(line, Dropped)
        }
        names = sorted(found)
    table = folder / f"{split}list{fold:02d}.txt"
    return collect(
        _rows(table, ClassLabels(names)),
        path,
        what=str(table),
        missing=missing,
        broken_lines=broken_lines,
        class_names=names,
        about=f"fold {fold} of 3",
    )


def _rows(table: Path, classes: ClassLabels) -> Iterator[LabelledRow | Dropped]:
    """Lines ``Class/v_Class_g01_c01.avi``, with the class's number behind it for training."""
    for line in lines(table):
        if isinstance(line, Dropped):
            yield line
            continue
        video = line.text.split()[0]
        name, slash, _ = video.partition("/")
        label = classes.of(name, line.where) if slash else Dropped("broken line", line.where)
        if isinstance(label, Dropped):
            yield label
            continue
        stem = str(Path(video).with_suffix("").as_posix())
        yield LabelledRow(
            line.where, image=f"{stem}.jpg", others=(f"{stem}.png",), labels={"class": label}
        )
