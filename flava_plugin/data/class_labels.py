"""What a label of a file means: a class by name or number, a score, or several classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flava_plugin.data.layouts.lines import lines
from flava_plugin.data.layouts.record import Dropped


class ClassLabels:
    """Turns names or numbers of classes into numbers.

    Args:
        names: Names of the classes, in the order of their numbers.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def of(self, value: Any, where: str) -> int | Dropped:
        """Read a class.

        Args:
            value: Its name, or its number from 0; names go first.
            where: File and line.

        Returns:
            Its number, or why it is none.
        """
        if value is None or value == "":
            return Dropped("no label", where)
        name = value.strip() if isinstance(value, str) else str(value)
        if name in self._numbers:
            return self._numbers[name]
        if not isinstance(value, bool) and name.isascii() and name.isdecimal():
            if int(name) < len(self.names):
                return int(name)
            out = f"label {name} is out of range: there are {len(self.names)} classes, from 0"
            return Dropped("unknown label", f"{where}: {out}")
        guess = get_close_matches(name, self.names, n=1)
        hint = f"did you mean {guess[0]!r}?" if guess else f"known: {', '.join(self.names[:9])}"
        return Dropped("unknown label", f"{where}: label {name[:60]!r} is no class; {hint}")


def number_of(value: Any, where: str) -> float | Dropped:
    """Read a score.

    Args:
        value: A number, or a text of one.
        where: File and line.

    Returns:
        The number, or why it is none; NaN and infinity are none.
    """
    if value is None or value == "":
        return Dropped("no label", where)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        return Dropped("unknown label", f"{where}: label {str(value)[:60]!r} is no number")
    return number


def read_names(path: Path) -> tuple[str, ...]:
    """Read a file of names, one a line, its number the line's from 0.

    Args:
        path: In UTF-8; Windows line ends and an empty last line do not matter.

    Returns:
        The names.

    Raises:
        ValueError: It is missing, empty, no text, or names one twice.
    """
    names: list[str] = []
    for line in lines(path):
        if isinstance(line, Dropped):
            if line.reason == "empty line":
                continue
            raise ValueError(f"{line.where}: {line.reason}; write one name a line, in UTF-8")
        names.append(line.text.strip())
    if not names:
        raise ValueError(f"{path}: holds no names; write one a line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: names {twice!r} twice; a name has one number")
    return tuple(names)


def names_in(values: Iterable[Any]) -> tuple[str, ...]:
    """Find the classes in the labels themselves.

    Args:
        values: Labels; empty ones do not count.

    Returns:
        Names in order: numbers from 0 to the largest where all are whole numbers, so that a label
        is its class's number also where some are missing; else sorted.
    """
    found = {str(value).strip() for value in values if value is not None and value != ""}
    if found and all(name.isascii() and name.isdecimal() for name in found):
        return tuple(map(str, range(max(map(int, found)) + 1)))
    return tuple(sorted(found))
