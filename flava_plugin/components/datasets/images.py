"""Pictures of a folder, whose sub-folders may name their classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts.picture_folder import picture_bytes
from flava_plugin.data.shards.picture_formats import FORMATS, NEEDED, format_of
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.schema import InputPath
from flava_plugin.types import Sample

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def image_folder(
    *,
    path: InputPath,
    split: str | None = None,
    extensions: list[str] | None = None,
) -> ImageFolder:
    """Every picture below a folder, in the order of their paths.

    Args:
        path: The folder. Where all pictures lie in sub-folders, those are the classes.
        split: A sub-folder such as ``train``, whose own sub-folders are the classes, numbered as
            those of ``train`` are. Passed over where ``path`` has no ``train``: such a folder has
            no splits.
        extensions: Ends of file names that count as pictures, in any case; null takes the usual.

    Returns:
        The dataset; with classes, ``extra`` has ``class``, an index of ``class_names``.

    Raises:
        ValueError: There is no folder, or no picture in it; or a split has a class that ``train``
            has not.
    """
    ends = extensions or list(EXTENSIONS)
    if split is None or not ((path / "train").is_dir() or (path / split).is_dir()):
        return ImageFolder(path, ends)
    if not (path / split).is_dir():
        known = ", ".join(sorted(each.name for each in path.iterdir() if each.is_dir()))
        raise ValueError(f"{path}: has no split '{split}', only {known}")
    folder = ImageFolder(path / split, ends)
    if split != "train" and (path / "train").is_dir() and folder.class_names:
        folder.number_classes(ImageFolder(path / "train", ends).class_names)
    return folder


class ImageFolder:
    """Pictures of a folder.

    Args:
        path: The folder.
        extensions: Ends of file names.

    Raises:
        ValueError: There is no folder, or no picture in it.
    """

    def __init__(self, path: Path, extensions: Sequence[str]) -> None:
        if not path.is_dir():
            raise ValueError(f"{path}: no such folder; give a folder of pictures")
        wanted = tuple(end.lower() for end in extensions)
        found = (file for file in path.rglob("*") if file.name.lower().endswith(wanted))
        self.path = path
        # plain strings: a Path each would cost ten times the memory
        self._names = sorted(
            file.relative_to(path).as_posix()
            for file in found
            if file.is_file() and not file.name.startswith(".")
        )
        if not self._names:
            raise ValueError(f"{path}: holds no pictures ({', '.join(wanted)})")
        classes = {_class_of(name) for name in self._names}
        self.class_names: tuple[str, ...] = () if "" in classes else tuple(sorted(classes))
        self._numbers = {name: number for number, name in enumerate(self.class_names)}

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int, /) -> Sample:
        """Open a picture; it is decoded where it is used.

        Args:
            index: Of the picture.

        Returns:
            The picture, and its class where there are any.

        Raises:
            OSError: The file is no picture.
        """
        name = self._names[index]
        return Sample(image=Image.open(self.path / name), extra=self._extra(name))

    def read_raw(self, index: int, /) -> RawSample:
        """Read a picture's file without decoding it.

        Args:
            index: Of the picture.

        Returns:
            The file as it is, and its class where there are any.

        Raises:
            DamagedSampleError: The file is gone, or is no picture.
        """
        name = self._names[index]
        data = picture_bytes(self.path / name)
        extension = FORMATS[format_of(data[:NEEDED])]
        if not extension:
            raise DamagedSampleError("broken picture", f"{self.path / name}: starts as none does")
        return RawSample(data, extension, None, self._extra(name), str(self.path / name))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; they change with the names of the files."""
        said = "\0".join(self._names).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(said, digest_size=8).hexdigest()

    def files(self) -> Iterator[str]:
        """Files that the samples are read from.

        Yields:
            str: Their paths.
        """
        yield from (f"{self.path}/{name}" for name in self._names)

    def number_classes(self, names: Sequence[str]) -> None:
        """Number the classes as another split does.

        Args:
            names: Its classes, in the order of their numbers.

        Raises:
            ValueError: A class is none of them.
        """
        if unknown := sorted(set(self.class_names) - set(names)):
            raise ValueError(
                f"{self.path}: class '{unknown[0]}' is none of train's ({', '.join(names[:9])}); "
                "remove or rename its folder"
            )
        self.class_names = tuple(names)
        self._numbers = {name: number for number, name in enumerate(names)}

    def _extra(self, name: str) -> dict[str, int]:
        return {"class": self._numbers[_class_of(name)]} if self.class_names else {}


def _class_of(name: str) -> str:
    """The topmost folder of a relative path, or nothing."""
    folder, slash, _ = name.partition("/")
    return folder if slash else ""
