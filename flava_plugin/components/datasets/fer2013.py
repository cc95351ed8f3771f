"""FER2013: faces in a table of pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.data.class_labels import ClassLabels
from flava_plugin.data.layouts.gathering import Account
from flava_plugin.data.layouts.named_rows import named_rows
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.schema import InputPath, Share
from flava_plugin.types import Sample

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_USAGES = {
    "train": ("Training", "PublicTest"),
    "train_only": ("Training",),
    "val": ("PublicTest",),
    "test": ("PrivateTest",),
}
_SIDE = 48


def fer2013(
    *,
    path: InputPath,
    split: Literal["train", "train_only", "val", "test"] = "train",
    broken_lines: Share = 0.001,
) -> Faces:
    """FER2013 (Goodfellow et al. 2013): ``fer2013.csv`` or ``icml_face_data.csv`` with ``Usage``.

    The public table has seven classes and CLIP's table says eight; FLAVA's paper says neither.

    Args:
        path: The file, its folder, or torchvision's root above ``fer2013``.
        split: ``train`` is Training and PublicTest, joined as CLIP joins them, and ``validation``
            says which rows are PublicTest; ``test`` is PrivateTest.
        broken_lines: Share of rows that may be broken; ten may be anyway.

    Returns:
        The dataset, held in memory (2,304 bytes a face); ``extra`` has ``class``.

    Raises:
        ValueError: There is no such file (``train.csv`` and ``test.csv`` have no labels to measure
            on), too many rows are broken, or none is left.
    """
    table = _table(path)
    # icml_face_data.csv has blanks in its headings, which are taken off
    account, wanted = Account(str(table), broken_lines), ("emotion", "pixels", "Usage")
    classes, labels, faces, public = ClassLabels(CLASSES), [], [], []
    for row in named_rows(table, wanted):
        account.seen += 1
        if isinstance(row, Dropped):
            account.drop(*row)
            continue
        if row.values["Usage"].strip() not in _USAGES[split]:
            account.drop("other split", row.where)
            continue
        label = classes.of(row.values["emotion"], row.where)
        pixels = _pixels(row.values["pixels"], row.where)
        if isinstance(label, Dropped) or isinstance(pixels, Dropped):
            account.drop(*(label if isinstance(label, Dropped) else pixels))
            continue
        labels.append(label)
        faces.append(pixels)
        public.append(row.values["Usage"].strip() == "PublicTest")
    account.judge()
    if not faces:
        raise ValueError(f"{table}: no row of {', '.join(_USAGES[split])} is left")
    account.log(len(faces))
    validation = np.array(public) if split == "train" and any(public) else None
    return Faces(np.stack(faces), np.array(labels), account.coverage(len(faces)), validation)


class Faces:
    """Grey faces with classes.

    Args:
        faces: (N, 48, 48) uint8.
        labels: (N,) classes.
        coverage: What was found and what was left out.
        validation: (N,) which of them are PublicTest among train's, or None.
    """

    class_names = CLASSES
    kind = "image"

    def __init__(
        self,
        faces: NDArray[np.uint8],
        labels: NDArray[np.int64],
        coverage: Mapping[str, Any],
        validation: NDArray[np.bool_] | None = None,
    ) -> None:
        self.faces = faces
        self.classes = labels
        self.coverage = dict(coverage)
        self.validation = validation

    def __len__(self) -> int:
        return len(self.faces)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; they change with faces and classes."""
        digest = hashlib.blake2b(self.faces.tobytes(), digest_size=8)
        digest.update(self.classes.astype(np.int64).tobytes())
        return digest.hexdigest()

    def files(self) -> tuple[()]:
        """None: everything is held in memory, and is in the fingerprint."""
        return ()

    def read(self, index: int, /) -> Sample:
        """Make a picture.

        Args:
            index: Of the face.

        Returns:
            The picture and its class.
        """
        extra = {"class": int(self.classes[index])}
        return Sample(image=Image.fromarray(self.faces[index]).convert("RGB"), extra=extra)


def _table(path: Path) -> Path:
    if path.is_file():
        return path
    names = ("fer2013.csv", "icml_face_data.csv")
    found = [folder / name for folder in (path, path / "fer2013") for name in names]
    table = next((file for file in found if file.is_file()), None)
    if table is None:
        raise ValueError(f"{path}: holds neither {names[0]} nor {names[1]}, with a column Usage")
    return table


def _pixels(text: str, where: str) -> NDArray[np.uint8] | Dropped:
    words = text.split()
    if len(words) != _SIDE**2 or not all(word.isdecimal() and int(word) < 256 for word in words):
        return Dropped("broken line", f"{where}: {len(words)} pixels, not 2304 of 0 to 255")
    return np.array(words, dtype=np.uint8).reshape(_SIDE, _SIDE)
