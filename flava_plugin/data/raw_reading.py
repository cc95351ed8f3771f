"""One sample as it lies in its file, whatever a dataset offers, and what is wrong with it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from flava_plugin.data.damage import DamagedSampleError, raise_of_the_machine, reason_of
from flava_plugin.data.decoding import FAILURES, decode, warn_of_bombs
from flava_plugin.data.pictures import to_rgb
from flava_plugin.data.shards.picture_formats import EXTENSIONS, FORMATS, NEEDED, format_of
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.types import Dataset, Modality, Sample

_SYNONYMS = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif"}


@dataclass(frozen=True)
class Looked:
    """What became of reading one sample.

    Attributes:
        index: In the dataset.
        raw: The sample; empty where nothing could be read.
        picture: Its picture, decoded and RGB where that was asked for.
        reason: What is wrong, in words that many samples share; empty where nothing is.
        detail: Where, and what was found.
    """

    index: int
    raw: RawSample = RawSample()
    picture: Image.Image | None = None
    reason: str = ""
    detail: str = ""


def look_at(dataset: Dataset, index: int, kind: Modality, *, decoded: bool) -> Looked:
    """Read a sample and see whether it holds what its kind needs.

    Args:
        dataset: Where from.
        index: Of the sample.
        kind: What it must hold.
        decoded: Whether its picture is decoded as well.

    Returns:
        The sample, or what is wrong with it.

    Raises:
        OSError: The machine is at its limits, which no sample is to blame for.
    """
    raw, picture = RawSample(), None
    with warnings.catch_warnings():
        warn_of_bombs(None)
        try:
            raw = read_raw(dataset, index)
            if kind != "text":
                if not raw.image:
                    raise DamagedSampleError("no picture", raw.name)
                if decoded:
                    picture = decode(open_picture(raw.image))
            if kind != "image":
                _judge_text(raw)
        except FAILURES as error:
            raise_of_the_machine(error)
            detail = error.detail if isinstance(error, DamagedSampleError) else str(error)
            if raw.name and raw.name not in detail:
                detail = f"{raw.name}: {detail}" if detail else raw.name
            return Looked(index, raw, None, _reason(error), detail[:600])
    return Looked(index, raw, picture)


def _judge_text(raw: RawSample) -> None:
    if not (raw.text or "").strip():
        raise DamagedSampleError("no text" if raw.text is None else "empty text", raw.name)
    try:
        (raw.text or "").encode("utf-8")
    except UnicodeEncodeError as error:  # of JSON's \\ud800; no file of text can hold it
        raise DamagedSampleError("text is not UTF-8", f"half a surrogate pair: {error}") from error


def read_raw(dataset: Dataset, index: int) -> RawSample:
    """Read a sample without decoding it, where that can be done.

    A picture that no file gave, because a program draws it, comes as PNG.

    Args:
        dataset: Where from; it need not have ``read_raw``.
        index: Of the sample.

    Returns:
        The sample; a negative caption of its own is the label ``negative_text``.
    """
    offered: Any = getattr(dataset, "read_raw", None)
    if offered is not None:
        raw: RawSample = offered(index)
        return raw
    sample = dataset.read(index)
    data = None if sample.image is None else _file_of(sample.image)
    extra = dict(sample.extra)
    if sample.negative_text is not None:
        extra["negative_text"] = sample.negative_text
    return RawSample(
        data,
        FORMATS[format_of(data[:NEEDED])] if data else "",
        sample.text,
        extra,
        _name_of(sample, index),
    )


def open_picture(data: bytes) -> Image.Image:
    """Open a picture's file; it is decoded where it is used.

    Args:
        data: The file.

    Returns:
        The picture.

    Raises:
        DamagedSampleError: It is none, is broken in its head, or has far too many pixels.
    """
    try:
        return Image.open(BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DamagedSampleError("decompression bomb", str(error)) from error
    except UnidentifiedImageError as error:  # whose own words are an address in memory
        raise DamagedSampleError("broken picture", "starts as no picture does") from error
    except FAILURES as error:
        raise DamagedSampleError("broken picture", str(error)) from error


def kind_of(dataset: Dataset) -> Modality:
    """Tell what the samples of a dataset hold, by its own word or by its first readable sample.

    Args:
        dataset: The dataset.

    Returns:
        The kind.

    Raises:
        ValueError: None of the first samples can be read.
    """
    own = getattr(dataset, "kind", None)
    if own in ("image", "text", "pair"):
        kind: Modality = own
        return kind
    problem = ""
    for index in range(min(32, len(dataset))):
        try:
            raw = read_raw(dataset, index)
        except FAILURES as error:
            problem = problem or f"{_reason(error)}: {error}"
            continue
        if raw.image is not None:
            return "pair" if raw.text is not None else "image"
        if raw.text is not None:
            return "text"
    raise ValueError(
        f"none of the first samples can be read ({problem or 'they are empty'}); "
        "say what they hold by --kind"
    )


def misnamed(raw: RawSample) -> bool:
    """Tell whether a picture is of another format than its file's name says.

    Args:
        raw: The sample.

    Returns:
        Whether it is; False where its name says nothing.
    """
    end = PurePosixPath(raw.name).suffix.removeprefix(".").lower()
    return bool(raw.image) and end in EXTENSIONS and _SYNONYMS.get(end, end) != raw.extension


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "no picture"
    return reason_of(error)


def _file_of(picture: Image.Image) -> bytes:
    """The file that a picture is opened from; a PNG of one that is decoded or drawn."""
    file: Any = getattr(picture, "fp", None)
    if file is not None and getattr(picture, "tile", None):
        file.seek(0)
        data: bytes = file.read()
        return data
    made = BytesIO()
    to_rgb(picture).save(made, "PNG")
    return made.getvalue()


def _name_of(sample: Sample, index: int) -> str:
    file: Any = getattr(sample.image, "filename", "")
    return str(file) if file else f"sample {index}"
