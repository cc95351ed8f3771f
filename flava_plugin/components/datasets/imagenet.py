"""ImageNet-1k as it is unpacked: a folder for each class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from flava_plugin.components.datasets.images import EXTENSIONS, ImageFolder
from flava_plugin.schema import InputPath

_WNID = re.compile(r"n\d{8}")


def imagenet(
    *,
    path: InputPath,
    split: Literal["train", "val"] = "train",
    class_names: InputPath | None = None,
) -> ImageFolder:
    """ImageNet-1k: ``train/n01440764/*.JPEG`` and ``val/n01440764/*.JPEG``.

    Classes are numbered by sorted WordNet id, the order of CLIP's class names; those of ``val`` as
    the folders of ``train`` are.

    Args:
        path: Folder of ``train`` and ``val``.
        split: Which of them.
        class_names: File of the classes' names, a line each: with the id first, as in
            ``LOC_synset_mapping.txt``, or in order of sorted ids; null calls them by id.

    Returns:
        The dataset; ``extra`` has ``class``, an index of ``class_names``.

    Raises:
        ValueError: There is no such tree, or the names do not fit.
    """
    folder = ImageFolder(path / split, EXTENSIONS)
    wrong = [name for name in folder.class_names if not _WNID.fullmatch(name)]
    if wrong or not folder.class_names:
        found = f"its sub-folder '{wrong[0]}' is none" if wrong else "pictures lie in it directly"
        raise ValueError(
            f"{path / split}: a class is a folder called by its WordNet id, such as n01440764, but "
            f"{found}; sort the pictures into such folders (for val, by the devkit's ground "
            "truth), or use image_folder"
        )
    if (path / "train").is_dir():  # so that both splits number them alike, though one lacks some
        known = (each.name for each in (path / "train").iterdir() if each.is_dir())
        folder.number_classes(sorted(name for name in known if _WNID.fullmatch(name)))
    if class_names is not None:
        folder.class_names = _names(class_names, folder.class_names)
    return folder


def _names(path: Path, ids: tuple[str, ...]) -> tuple[str, ...]:
    lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    words = [line.split(maxsplit=1) for line in lines]
    if all(_WNID.fullmatch(each[0]) and len(each) == 2 for each in words):
        known = {each[0]: each[1] for each in words}
        if lacking := [name for name in ids if name not in known]:
            raise ValueError(f"{path}: has no name for {lacking[0]} ({len(lacking)} classes)")
        return tuple(known[name] for name in ids)
    if len(lines) != len(ids):
        raise ValueError(f"{path}: {len(lines)} names for {len(ids)} classes; write a line each")
    return tuple(lines)
