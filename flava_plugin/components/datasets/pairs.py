"""Pictures with captions from a file of JSON lines."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.identity import digest_of_file
from flava_plugin.data.layouts.picture_folder import picture_bytes
from flava_plugin.data.layouts.picture_names import inside
from flava_plugin.data.shards.picture_formats import FORMATS, NEEDED, format_of
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.schema import InputPath
from flava_plugin.types import Sample


def jsonl_pairs(
    *,
    path: InputPath,
    images: InputPath | None = None,
    image_key: str = "image",
    caption_key: str = "caption",
) -> JsonLines:
    """Pictures with captions, one JSON object per line: ``{"image": "a.jpg", "caption": "..."}``.

    Args:
        path: The file, in UTF-8; empty lines are passed over.
        images: Folder that the pictures' paths start from; null takes the file's own.
        image_key: Key of the picture's path, which must stay inside the folder.
        caption_key: Key of the caption, or of a list of captions, each of which makes a pair.

    Returns:
        The dataset; ``extra`` has ``picture``, the number of the picture's line, by which the
        captions of a picture belong together.

    Raises:
        ValueError: A line is none of these; the text names file and line. Or the file is empty.
    """
    return JsonLines(path, images or path.parent, image_key, caption_key)


class JsonLines:
    """Pairs of a file; a sample costs twenty bytes of memory until it is read.

    Args:
        path: The file.
        images: Folder of the pictures.
        image_key: Key of the picture's path.
        caption_key: Key of the caption or captions.

    Raises:
        ValueError: There is no file, a line is no pair, or there is none at all; it names the line.
    """

    def __init__(self, path: Path, images: Path, image_key: str, caption_key: str) -> None:
        self.path = path
        self.images = images
        self.image_key = image_key
        self.caption_key = caption_key
        self._lines = array("Q")
        self._offsets = array("Q")
        self._choices = array("I")
        for number, offset, line in _lines(path):
            name, captions = self._parse(line, number)
            if not self._lines and not (images / name).is_file():
                raise ValueError(
                    f"{path}:{number}: no picture {images / name}; set images: to the folder that "
                    f"'{image_key}' starts from"
                )
            for choice in range(len(captions)):
                self._lines.append(number)
                self._offsets.append(offset)
                self._choices.append(choice)
        if not self._lines:
            raise ValueError(f"{path}: holds no pairs; each line is a JSON object")

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, index: int, /) -> Sample:
        """Read a pair; the picture is opened, and decoded where it is used.

        Args:
            index: Of the pair.

        Returns:
            Picture and caption.

        Raises:
            OSError: The picture is missing or is none.
        """
        name, text, number = self._row(index)
        return Sample(Image.open(self.images / name), text, extra={"picture": number})

    def read_text(self, index: int, /) -> str:
        """Read a caption alone.

        Args:
            index: Of the pair.

        Returns:
            The caption.
        """
        return self._row(index)[1]

    def read_raw(self, index: int, /) -> RawSample:
        """Read a pair without decoding its picture.

        Args:
            index: Of the pair.

        Returns:
            The picture's file as it is, and the caption.

        Raises:
            DamagedSampleError: The file is missing, or is no picture.
        """
        name, text, number = self._row(index)
        data = picture_bytes(self.images / name)
        extension = FORMATS[format_of(data[:NEEDED])]
        if not extension:
            raise DamagedSampleError("broken picture", f"{self.images / name}: starts as none does")
        return RawSample(data, extension, text, {"picture": number}, str(self.images / name))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; they change with the file."""
        return digest_of_file(self.path, 8)[0]

    def _row(self, index: int) -> tuple[str, str, int]:
        """Name of the picture, caption and number of the line."""
        number = self._lines[index]
        with self.path.open("rb") as file:
            file.seek(self._offsets[index])
            name, captions = self._parse(file.readline(), number)
        return name, captions[self._choices[index]], number

    def _parse(self, line: bytes, number: int) -> tuple[str, list[str]]:
        where = f"{self.path}:{number}"
        try:
            row: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: no JSON object on one line ({error})") from error
        for key in (self.image_key, self.caption_key):
            if not isinstance(row, dict) or key not in row:
                found = f"keys {', '.join(map(repr, row))}" if isinstance(row, dict) else repr(row)
                raise ValueError(
                    f"{where}: has no '{key}' but {found[:120]}; set image_key: and caption_key: "
                    "to the file's own keys"
                )
        name, captions = row[self.image_key], row[self.caption_key]
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
            raise ValueError(f"{where}: '{self.caption_key}' is neither a text nor a list of texts")
        if not captions or not all(text.strip() for text in captions):
            raise ValueError(f"{where}: '{self.caption_key}' holds an empty caption")
        if not isinstance(name, str) or not inside(name):
            raise ValueError(
                f"{where}: '{self.image_key}' is {name!r}; write a path inside the folder of "
                "pictures, relative and without '..'"
            )
        return name, captions


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset in bytes and text of each line that is not empty."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a file of JSON lines")
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, offset, line
            offset += len(line)
