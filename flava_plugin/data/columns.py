"""Values of many rows as a few arrays, which forked processes share and a digest covers.

Legend for shapes: N rows, K classes.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Column(Protocol):
    """One value for each row."""

    def at(self, index: int) -> Any:
        """The value of a row."""
        ...

    def arrays(self) -> Sequence[NDArray[Any]]:
        """What holds them, for a digest."""
        ...


class Numbers:
    """Whole numbers, or others.

    Args:
        values: One of each row, all int or all float.
    """

    def __init__(self, values: Sequence[int] | Sequence[float]) -> None:
        kind = np.int64 if all(isinstance(value, int) for value in values) else np.float64
        self.values: NDArray[Any] = np.array(values, dtype=kind)

    def at(self, index: int) -> int | float:
        """Read a number.

        Args:
            index: Of the row.

        Returns:
            The number.
        """
        value: int | float = self.values[index].item()
        return value

    def arrays(self) -> list[NDArray[Any]]:
        """Give what holds them.

        Returns:
            One array.
        """
        return [self.values]


class Strings:
    """Texts, in UTF-8 one behind the other.

    Args:
        texts: One of each row.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        blob, ends = bytearray(), array("Q")
        for text in texts:
            blob += text.encode("utf-8")
            ends.append(len(blob))
        self._blob = np.frombuffer(bytes(blob), np.uint8)
        self._ends = np.frombuffer(ends, np.uint64)

    def at(self, index: int) -> str:
        """Read a text.

        Args:
            index: Of the row.

        Returns:
            The text.
        """
        start = int(self._ends[index - 1]) if index else 0
        return self._blob[start : int(self._ends[index])].tobytes().decode("utf-8")

    def sizes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Measure texts.

        Args:
            indices: Of rows.

        Returns:
            Bytes of each.
        """
        starts = np.where(indices > 0, self._ends[indices - 1], 0)
        measured: NDArray[np.int64] = (self._ends[indices] - starts).astype(np.int64)
        return measured

    def arrays(self) -> list[NDArray[Any]]:
        """Give what holds them.

        Returns:
            The bytes, and where each text ends.
        """
        return [self._blob, self._ends]


class Records:
    """Values of JSON, kept as text: for what is seldom asked for.

    Args:
        values: One of each row.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._texts = Strings(json.dumps(value, ensure_ascii=True) for value in values)

    def at(self, index: int) -> Any:
        """Read a value.

        Args:
            index: Of the row.

        Returns:
            The value.
        """
        return json.loads(self._texts.at(index))

    def arrays(self) -> list[NDArray[Any]]:
        """Give what holds them.

        Returns:
            The bytes, and where each ends.
        """
        return self._texts.arrays()


class Scores:
    """A score for each of K classes, nearly all of them 0: several labels, or soft targets.

    Args:
        rows: ``{class: score}`` of each row.
        classes: K.
    """

    def __init__(self, rows: Iterable[dict[int, float]], classes: int) -> None:
        ends, numbers, scores = array("Q"), array("I"), array("f")
        for row in rows:
            for number in sorted(row):
                numbers.append(number)
                scores.append(row[number])
            ends.append(len(numbers))
        self.classes = classes
        self._ends = np.frombuffer(ends, np.uint64)
        self._numbers = np.frombuffer(numbers, np.uint32)
        self._scores = np.frombuffer(scores, np.float32)

    def at(self, index: int) -> list[float]:
        """Read a row.

        Args:
            index: Of the row.

        Returns:
            K scores.
        """
        part = slice(int(self._ends[index - 1]) if index else 0, int(self._ends[index]))
        dense = np.zeros(self.classes, np.float32)
        dense[self._numbers[part]] = self._scores[part]
        scores: list[float] = dense.tolist()
        return scores

    def arrays(self) -> list[NDArray[Any]]:
        """Give what holds them.

        Returns:
            Where each row ends, its classes and their scores.
        """
        return [self._ends, self._numbers, self._scores]


def column_of(values: Sequence[Any]) -> Column:
    """Choose how values are held.

    Args:
        values: One of each row, all numbers or all texts.

    Returns:
        The column.

    Raises:
        ValueError: They are of other types, or mixed.
    """
    if all(isinstance(value, str) for value in values):
        return Strings(values)
    if all(isinstance(value, int | float) for value in values):
        return Numbers(values)
    kinds = sorted({type(value).__name__ for value in values})
    raise ValueError(f"a column holds {', '.join(kinds)}; make it all numbers or all texts")
