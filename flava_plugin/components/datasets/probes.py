"""The sets of linear probes, as torchvision reads them."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torchvision
from numpy.typing import NDArray

from flava_plugin.components.datasets.probe_table import (
    PROBES,
    ProbeName,
    ProbeSet,
    names_and_labels,
)
from flava_plugin.data.damage import DamagedSampleError, Reason, raise_of_the_machine
from flava_plugin.data.split_choice import drawn_rows, listed_rows
from flava_plugin.schema import InputPath
from flava_plugin.types import Sample


def probe_set(
    *,
    path: InputPath,
    name: ProbeName,
    split: Literal["train", "test"] = "train",
    splits: InputPath | None = None,
) -> Probe:
    """One of the eighteen sets of FLAVA's linear probes that ``torchvision.datasets`` reads.

    ``train`` has the validation part too, as in CLIP's protocol (Radford et al. 2021, appendix
    A.3); ``validation`` says which rows it is, where a set publishes it or ``splits`` lists it.
    For ``eurosat``, ``sun397``, ``caltech101`` and ``clevr_counts`` no split is published that can
    be read here: name ``splits``, else one is drawn by classes, the same everywhere, and ``about``
    says so. Labels of ``clevr_counts`` are the number of things less three.

    Args:
        path: The root that torchvision takes, above the set's own folder.
        name: The set.
        split: ``train`` or ``test``.
        splits: Folder of ``train.txt``, ``val.txt`` and ``test.txt``, a relative path a line, for
            a set without a published split.

    Returns:
        The dataset; ``extra`` has ``class``, an index of ``class_names``.

    Raises:
        ValueError: The set is not there, or is damaged, or needs a library that is missing.
    """
    found = PROBES[name]
    if splits is not None and found.rule is None:
        raise ValueError(f"probe_set {name}: has a published split; leave splits: out")
    if not (path / found.folder).is_dir():  # before torchvision, which makes some folders
        raise ValueError(f"{path / found.folder}: no such folder; unpack {name} there")
    parts = [_open(found, path, dict(options), name) for options in getattr(found, split)]
    ends = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    validation = ends > 0 if len(parts) > 1 and found.rule is None else None
    names = tuple(found.names) or _class_names(parts[0])
    about = found.quirk
    order: Sequence[int] = range(sum(map(len, parts)))
    if found.rule is not None:
        files, numbers = names_and_labels(parts[0], found.lowest)
        labels = np.array(numbers, dtype=np.int64)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            raise ValueError(
                f"{path / found.folder}: labels {labels.min()} to {labels.max()} are not among the "
                f"{len(names)} classes of {name}"
            )
        # by path, since torchvision lists some folders in the order of the disk
        by_path = np.array(sorted(range(len(files)), key=files.__getitem__), dtype=np.int64)
        ordered = [files[place] for place in by_path]
        if splits is not None:
            rows, about = listed_rows(splits, split, ordered), f"split of {splits}"
            if split == "train" and (splits / "val.txt").is_file():
                validation = np.isin(rows, listed_rows(splits, "val", ordered))
        else:
            rows = _drawn(found, labels[by_path], split, name)
            drawn = f"split drawn by classes, {len(rows)} of {len(files)} samples"
            about = f"{drawn}; {about}" if about else drawn
        order = by_path[rows].tolist()
    return Probe(
        parts, order, names, folder=path / found.folder, validation=validation,
        lowest=found.lowest, about=about, name=f"{name} {split}",
    )  # fmt: skip


def _class_names(part: Any) -> tuple[str, ...]:
    """Torchvision's names of the classes."""
    names = getattr(part, "classes", None) or part.categories
    return tuple(map(str, names))


def _drawn(found: ProbeSet, labels: NDArray[np.int64], split: str, name: str) -> NDArray[np.int64]:
    """Of a set whose parts are apart already, the rule only says how many are taken."""
    assert found.rule is not None, "only such sets are drawn"
    rule = found.rule
    if found.train is not found.test and found.train != found.test:
        wanted = rule.train if split == "train" else rule.test
        return drawn_rows(labels, rule._replace(train=wanted or 0, test=None), "train", name)
    return drawn_rows(labels, rule, split, name)


def _open(found: ProbeSet, path: Path, options: dict[str, Any], name: str) -> Any:
    try:
        part = getattr(torchvision.datasets, found.kind)(str(path), **options)
        count = len(part)  # of some sets this is what first opens a file
    except Exception as error:  # torchvision asserts, and its readers raise anything
        raise_of_the_machine(error)
        hint = (
            "pip install 'flava-plugin[eval]'"
            if isinstance(error, ImportError) or ("install" in str(error))
            else f"unpack {name} anew, as torchvision.datasets.{found.kind} wants it"
        )
        said = str(error) or type(error).__name__
        raise ValueError(
            f"{path / found.folder}: {name} cannot be read ({said}); {hint}"
        ) from error
    if not count:
        said = "".join(f" {key} {value}" for key, value in options.items())
        raise ValueError(f"{path / found.folder}: {name}{said} holds no sample; is the set whole?")
    return part


_CONTENT = ("data", "samples", "_samples", "_image_files", "_labels", "labels", "targets", "y")
"""Where torchvision's classes keep their files, pixels and labels."""


_FILES = ("_image_files", "_images", "samples", "_samples")
"""Where they list their files, alone or with a label."""


def _bytes_of(values: Any) -> bytes:
    """For a digest: arrays as they are, paths by their two last names, wherever the root lies."""
    if hasattr(values, "tobytes"):
        return bytes(values.tobytes())
    if hasattr(values, "numpy"):
        return bytes(values.numpy().tobytes())
    rows = ([row] if isinstance(row, str | Path | int) else row for row in values)
    named = (
        [
            "/".join(Path(each).parts[-2:]) if isinstance(each, str | Path) else str(each)
            for each in row
        ]
        for row in rows
        if row is not None
    )
    return "\n".join(" ".join(row) for row in named).encode("utf-8", "surrogateescape")


def _file_of(part: Any, place: int) -> str:
    """The file of a torchvision sample, where the class lists files."""
    listed = next((vars(part)[name] for name in _FILES if name in vars(part)), None)
    if listed is None:
        return f"sample {place}"
    return str(listed[place] if isinstance(listed[place], str | Path) else listed[place][0])


class Probe:
    """Labelled pictures of torchvision datasets.

    Args:
        parts: The datasets, joined in order.
        order: Numbers of the samples in them, as they are counted here.
        class_names: Names of the classes.
        folder: What all files of the set lie below.
        validation: (N,) which samples are of the published validation part, or None.
        lowest: The label that becomes 0.
        about: What a reader of the results has to know about the split.
        name: Of the set and its split.

    Raises:
        ValueError: There is no sample.
    """

    def __init__(
        self,
        parts: Sequence[Any],
        order: Sequence[int],
        class_names: Sequence[str],
        *,
        folder: Path,
        validation: NDArray[np.bool_] | None = None,
        lowest: int = 0,
        about: str = "",
        name: str = "",
    ) -> None:
        if not len(order):
            raise ValueError(f"{name}: this split holds no sample; is the set whole?")
        self.parts = list(parts)
        self.class_names = tuple(class_names)
        self.validation = validation
        self.about = about
        self.name = name
        self._folder = folder
        self._lowest = lowest
        self._order = np.array(order, dtype=np.int64)
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return len(self._order)

    def read(self, index: int, /) -> Sample:
        """Read a picture.

        Args:
            index: Of the picture.

        Returns:
            The picture and its class.

        Raises:
            ValueError: Its label is out of range.
            DamagedSampleError: The file is missing, or no picture.
        """
        place = int(self._order[range(len(self))[index]])
        part = int(np.searchsorted(self._ends, place, side="right"))
        own = place - (int(self._ends[part - 1]) if part else 0)
        try:
            picture, label = self.parts[part][own]
        except OSError as error:  # torchvision's says of a picture cut short not which it is
            raise_of_the_machine(error)
            reason: Reason = "no picture" if error.errno == errno.ENOENT else "broken picture"
            detail = f"{self.name}: {_file_of(self.parts[part], own)}: {error}"
            raise DamagedSampleError(reason, detail) from error
        number = int(label) - self._lowest
        if not 0 <= number < len(self.class_names):
            count = len(self.class_names)
            raise ValueError(f"{self.name}: sample {place} has label {label}, of {count} classes")
        return Sample(image=picture, extra={"class": number})

    def files(self) -> Iterator[str]:
        """Files of the set, of all its splits.

        Yields:
            str: Their paths.
        """
        for here, folders, names in os.walk(self._folder, followlinks=True):
            folders.sort()
            yield from (f"{here}/{name}" for name in sorted(names))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; they change with the split, the classes and what torchvision lists."""
        said = "\0".join((self.name, *self.class_names)).encode()
        digest = hashlib.blake2b(said, digest_size=8)
        digest.update(self._order.tobytes())
        for part in self.parts:
            for name in _CONTENT:
                if name in vars(part):
                    digest.update(_bytes_of(vars(part)[name]))
        return digest.hexdigest()
