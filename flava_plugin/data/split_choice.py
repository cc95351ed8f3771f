"""Splits that no publication fixes: from files of paths, or drawn by classes.

Legend for shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.layouts.lines import lines
from flava_plugin.data.layouts.record import Dropped
from flava_plugin.data.randomness import key_of, uniform

Rows = NDArray[np.int64]


class SplitRule(NamedTuple):
    """How a set without a published split is drawn.

    Attributes:
        train: Samples for training; or of each class.
        test: Samples to measure on; or of each class, None for all others.
        per_class: Whether these numbers are of each class.
    """

    train: int
    test: int | None
    per_class: bool = False


def drawn_rows(labels: NDArray[np.int64], rule: SplitRule, split: str, name: str) -> Rows:
    """Draw a split: a function of the set's name and of what it holds, and of nothing else.

    A set that is smaller than the rule expects is divided in the rule's proportion.

    Args:
        labels: (N,) classes.
        rule: How many.
        split: ``train`` or ``test``; they share no sample.
        name: Of the set, in place of a seed.

    Returns:
        Numbers of the chosen samples, ascending.

    Raises:
        ValueError: The split would be empty.
    """
    chance = uniform(key_of("split", name)[0], np.arange(len(labels)))
    chosen: list[Rows] = []
    classes, counts = np.unique(labels, return_counts=True)
    trains = _quotas(counts, rule.train, rule.test, per_class=rule.per_class)
    lefts = counts - trains
    tests = lefts
    if rule.test is not None:
        tests = np.minimum(lefts, rule.test) if rule.per_class else _shares(lefts, rule.test)
    for number, first, second in zip(classes, trains, tests, strict=True):
        members = np.flatnonzero(labels == number)
        members = members[np.argsort(chance[members], kind="stable")]
        chosen.append(members[:first] if split == "train" else members[first : first + second])
    rows: Rows = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
    if not len(rows):
        raise ValueError(f"{name}: {len(labels)} samples leave none for {split}; is the set whole?")
    return rows


def _quotas(counts: Rows, train: int, test: int | None, *, per_class: bool) -> Rows:
    """Samples of each class for training."""
    if per_class:
        quotas: Rows = np.where(counts >= 2 * train, train, np.minimum(train, (counts + 1) // 2))
        return quotas
    total = int(counts.sum())
    if test is not None and total < train + test:
        train = round(total * train / (train + test))
    return _shares(counts, train)


def _shares(counts: Rows, number: int) -> Rows:
    """Divide a number among classes by their sizes; the largest remainders get what is left."""
    total = int(counts.sum())
    number = min(number, total)
    exact = counts * (number / max(1, total))
    shares: Rows = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: number - int(shares.sum())]] += 1
    return np.minimum(shares, counts)


def listed_rows(folder: Path, split: str, names: Sequence[str]) -> Rows:
    """Read a split from files of paths: ``train.txt`` (with ``val.txt``, if any) or ``test.txt``.

    Args:
        folder: Where the files are. A line is a path, which may start with ``/``, and may be
            followed by a label, which is not read: the set has its own.
        split: ``train`` or ``test``.
        names: (N) paths of the samples, relative, with ``/``.

    Returns:
        Numbers of the listed samples, ascending.

    Raises:
        ValueError: A file is missing, names a path that the set has not, or one twice.
    """
    numbers = {name: number for number, name in enumerate(names)}
    files = [folder / f"{split}.txt"]
    if split == "train" and (folder / "val.txt").is_file():
        files.append(folder / "val.txt")
    found: set[int] = set()
    for file in files:
        for line in lines(file):
            if isinstance(line, Dropped):
                if line.reason == "empty line":
                    continue
                raise ValueError(f"{line.where}: {line.reason}; write a path a line, in UTF-8")
            whole = line.text.strip().lstrip("/")
            number = numbers.get(whole, numbers.get(whole.rpartition(" ")[0].rstrip()))
            if number is None:
                raise ValueError(
                    f"{line.where}: {whole[:90]!r} is no sample; paths are such as {names[0]!r}"
                )
            if number in found:
                raise ValueError(f"{line.where}: {whole[:90]!r} is listed twice")
            found.add(number)
    if not found:
        raise ValueError(f"{files[0]}: lists no sample; write a path a line")
    return np.array(sorted(found), dtype=np.int64)
