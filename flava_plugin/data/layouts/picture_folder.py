"""Which pictures a folder holds, asked a name at a time; and the bytes of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from flava_plugin.data.damage import DamagedSampleError

_MOST_NAMES = 4_000_000
"""Names remembered at a time, about 100 bytes each."""

_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
"""Errors that mean there is no such folder."""


class PictureFolder:
    """A folder of pictures, listed sub-folder by sub-folder.

    Listing ten thousand names costs about what ten questions after single files do, on a network's
    disk above all.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listings: dict[str, frozenset[str]] = {}
        self._held = 0

    def has(self, name: str) -> bool:
        """Tell whether a file is there.

        Args:
            name: Its path below the folder.

        Returns:
            Whether its folder lists it.

        Raises:
            ValueError: Its folder is there and cannot be listed.
        """
        folder, _, file = name.rpartition("/")
        if folder not in self._listings:
            self._list(folder)
        return file in self._listings[folder]

    def has_folder(self, name: str) -> bool:
        """Tell whether a sub-folder is there.

        Args:
            name: Its path below the folder.

        Returns:
            Whether it is one.
        """
        return (self.path / name).is_dir()

    def _list(self, folder: str) -> None:
        try:
            found = frozenset(os.listdir(self.path / folder))  # noqa: PTH208 (names alone, fast)
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                # a disk that fails, or a folder that may not be read, holds pictures all the same
                raise ValueError(f"{self.path / folder}: cannot be listed: {error}") from error
            found = frozenset()
        self._listings[folder] = found
        self._held += 1 + len(found)
        while self._held > _MOST_NAMES and len(self._listings) > 1:
            oldest = next(iter(self._listings))
            self._held -= 1 + len(self._listings.pop(oldest))


def picture_bytes(path: Path) -> bytes:
    """Read the file of a picture.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        DamagedSampleError: There is no such file.
        OSError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedSampleError("no picture", f"{path}: {error.strerror}") from error
