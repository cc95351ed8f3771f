"""The tables on disk: a file for each part and kind of column, good as long as its part is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from flava_plugin.data.shards.sorted_header import sort_header
from flava_plugin.durable import write_bytes

_FORMAT = "flava_plugin curation table 1"


class PartFiles:
    """Columns of one kind, a file for each part.

    Args:
        folder: Of all tables.
        name: Of the kind: a folder in it.
        settings: What the columns depend on beside the part.
    """

    def __init__(self, folder: Path, name: str, settings: str) -> None:
        self.folder = folder / name
        self.settings = blake2b(settings.encode(), digest_size=8).hexdigest()

    def path(self, part: int) -> Path:
        """Say where a part's file is.

        Args:
            part: Its number.

        Returns:
            The path.
        """
        return self.folder / f"{part // 1000:03d}" / f"{part:06d}.safetensors"

    def has(self, part: int, content: str) -> bool:
        """Tell whether a part's file is there and fits.

        Args:
            part: Its number.
            content: What the part holds.

        Returns:
            Whether nothing has to be done for it.
        """
        try:
            with safe_open(self.path(part), "np") as file:
                about = file.metadata() or {}
        except (OSError, SafetensorError):
            return False
        return about.get("format") == _FORMAT and about.get("of") == f"{content} {self.settings}"

    def write(
        self,
        part: int,
        content: str,
        columns: Mapping[str, NDArray[Any]],
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a part's file, whole or not at all.

        Args:
            part: Its number.
            content: What the part holds.
            columns: Arrays by name.
            notes: What else is known of it, for JSON.
        """
        path = self.path(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "format": _FORMAT,
            "of": f"{content} {self.settings}",
            "notes": json.dumps(dict(notes or {}), sort_keys=True),
        }
        arrays = {key: np.ascontiguousarray(column) for key, column in columns.items()}
        write_bytes(path, sort_header(save(arrays, about)))

    def column(self, part: int, name: str) -> NDArray[Any]:
        """Read a column of a part.

        Args:
            part: Its number.
            name: The column's.

        Returns:
            The array.

        Raises:
            ValueError: The file is damaged or gone.
        """
        try:
            with safe_open(self.path(part), "np") as file:
                column: NDArray[Any] = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise _damaged(self.path(part), error) from error
        return column

    def notes(self, part: int) -> dict[str, Any]:
        """Read what else is known of a part.

        Args:
            part: Its number.

        Returns:
            What ``write`` was given.

        Raises:
            ValueError: The file is damaged or gone.
        """
        try:
            with safe_open(self.path(part), "np") as file:
                found = json.loads((file.metadata() or {})["notes"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise _damaged(self.path(part), error) from error
        return dict(found)


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be read ({error}); delete it and run again")
