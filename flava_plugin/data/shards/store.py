"""Where shards lie: a folder of this machine, or a store behind a URL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.cache_section import CacheSection


class Store(Protocol):
    """Gives complete files by their names below one place."""

    def read(self, name: str) -> bytes:
        """Read a small file whole.

        Args:
            name: Its path below the place.

        Returns:
            Its bytes.

        Raises:
            DamagedSampleError: There is no such file.
        """
        ...

    def doubt(self, name: str, detail: str) -> bool:
        """Say that what ``read`` gave cannot be the file.

        Args:
            name: Its path below the place.
            detail: Why not.

        Returns:
            Whether reading it again may give other bytes.
        """
        ...

    def local(self, name: str, size: int, digest: bytes) -> Path:
        """Give a complete copy of a file on this machine, fetched first where it must be.

        Args:
            name: Its path below the place.
            size: Its length in bytes; -1 where unknown.
            digest: Its blake2b, 16 bytes; empty where unknown.

        Returns:
            Where the copy is.

        Raises:
            DamagedSampleError: There is no such file, or it is not what it should be.
        """
        ...

    def expect(self, files: Sequence[tuple[str, int, bytes]]) -> None:
        """Say which files will be asked for soon; returns at once.

        Args:
            files: Name, size and digest of each, as ``local`` takes them.
        """
        ...

    def take_incidents(self) -> dict[str, int]:
        """Count what went wrong and was put right since the last call.

        Returns:
            Number by kind.
        """
        ...


class LocalStore:
    """A folder of this machine; its files are where they are.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> bytes:
        """Read a small file whole.

        Args:
            name: Its path below the folder.

        Returns:
            Its bytes.

        Raises:
            DamagedSampleError: There is no such file.
        """
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DamagedSampleError("missing shard", f"{self.folder / name}") from error

    def doubt(self, name: str, detail: str) -> bool:
        """Say that a file is not what it should be.

        Args:
            name: Not used.
            detail: Not used.

        Returns:
            False: a disk gives the same bytes again.
        """
        del name, detail
        return False

    def local(self, name: str, size: int, digest: bytes) -> Path:
        """Give a file's place; neither size nor digest is looked at.

        Args:
            name: Its path below the folder.
            size: Not used: whoever opens the file sees it.
            digest: Not used: ``flava data check`` compares it.

        Returns:
            The path.

        Raises:
            DamagedSampleError: There is no such file.
        """
        path = self.folder / name
        if not path.is_file():
            raise DamagedSampleError("missing shard", f"{path}")
        return path

    def expect(self, files: Sequence[tuple[str, int, bytes]]) -> None:
        """Do nothing: every file is here.

        Args:
            files: Not used.
        """
        del files

    def take_incidents(self) -> dict[str, int]:
        """Count what went wrong on the way here.

        Returns:
            Nothing, as there is no way.
        """
        return {}


def is_remote(location: str) -> bool:
    """Tell a URL from a path.

    Args:
        location: Either.

    Returns:
        Whether it is a URL.
    """
    return "://" in location


def open_store(location: str, cache: CacheSection | None) -> Store:
    """Open a folder or a URL.

    Args:
        location: A path, or ``scheme://...`` for anything fsspec knows.
        cache: Where copies of remote files are kept.

    Returns:
        The store.

    Raises:
        ValueError: The location is remote and there is no cache, or there is no such folder.
    """
    if not is_remote(location):
        folder = Path(location)
        if not folder.is_dir():
            raise ValueError(f"{location}: no such folder; give a folder of *.tar, or a URL")
        return LocalStore(folder)
    if cache is None:
        raise ValueError(
            f"{location}: is remote and needs a folder for copies; set cache: {{folder: ..., "
            "gib: ...}"
        )
    from flava_plugin.data.shards.remote import RemoteStore

    return RemoteStore(location, cache)
