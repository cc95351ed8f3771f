"""Shards at the other end of a network: fetched whole, checked, kept in a cache on disk.

The one door to ``fsspec``, which knows s3, gs, http and many more protocols.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from flava_plugin.data.damage import DamagedSampleError, StoreError
from flava_plugin.data.shards.cache import DiskCache
from flava_plugin.data.shards.cache_claims import Claim
from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.prefetch import File, Prefetch
from flava_plugin.data.shards.remote_incidents import Incidents
from flava_plugin.data.shards.remote_requests import Requests

ASK_AGAIN = 60.0
"""Seconds for which a file that is missing or damaged is taken to stay so."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}

# What a forked child inherits belongs to its parent: closing its connections here would end them
# there. It is kept, so that nothing closes it.
_inherited: list[Any] = []
_making = threading.Lock()


def _renew_lock() -> None:
    global _making
    _making = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_renew_lock)


class RemoteStore:
    """A folder of shards behind a URL; each process that reads it has connections of its own.

    Args:
        location: URL of the folder, as ``s3://bucket/folder``.
        cache: Where copies are kept, and how patient requests are.
    """

    def __init__(self, location: str, cache: CacheSection) -> None:
        self.location = location
        self.cache = cache
        self._own: _Connection | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_own": None}

    def read(self, name: str) -> bytes:
        """Fetch a small file that is not cached: the manifest.

        Args:
            name: Its name below the location.

        Returns:
            Its bytes.

        Raises:
            DamagedSampleError: It is not there.
            StoreError: The store does not answer, or refuses.
        """
        own = self._connection()
        path = own.path(name)
        return b"".join(own.requests.pieces(path, own.requests.size(path)))

    def doubt(self, name: str, detail: str) -> bool:
        """Count a file that came as it cannot be; it has no digest by which that shows earlier.

        Args:
            name: Its name below the location.
            detail: Why it cannot be right.

        Returns:
            True: the network may give other bytes.
        """
        self._connection().incidents.count("wrong bytes", f"{self.location}: {name}: {detail}")
        return True

    def local(self, name: str, size: int, digest: bytes) -> Path:
        """Get a whole, checked copy of a file on this machine.

        The copy stays until this process has asked for two other files; whoever has opened it by
        then reads on.

        Args:
            name: Its name below the location.
            size: Its bytes; -1 where they are not known.
            digest: blake2b-16 of it; empty where it is not known.

        Returns:
            Path of the copy.

        Raises:
            DamagedSampleError: It is not there, or not the file that was indexed.
            StoreError: The store does not answer, or refuses; or the cache's disk is full.
        """
        path = self._connection().fetch((name, size, digest), wait=True)
        assert path is not None
        return path

    def expect(self, files: Sequence[File]) -> None:
        """Fetch files ahead, as far as connections and half of the cache go; never blocks.

        Args:
            files: Name, size and digest of each, in the order in which they will be read.
        """
        self._connection().prefetch.expect(files)

    def take_incidents(self) -> dict[str, int]:
        """Hand over what went wrong in this process since it was last asked.

        Returns:
            How many incidents of each kind: "request failed", "request stalled", "short read",
            "wrong bytes", and of the cache "cache file damaged", "cache too small",
            "cache disk full". A connection that is lost before an answer begins is none: the
            HTTP library makes it anew by itself, once.
        """
        return self._connection().incidents.take()

    def _connection(self) -> _Connection:
        own = self._own
        if own is None or own.process != os.getpid():
            with _making:
                own = self._own
                if own is None or own.process != os.getpid():
                    if own is not None:
                        _inherited.append(own)
                    own = self._own = _Connection(self.location, self.cache)
        return own


class _Connection:
    """What one process needs to read a store: a file system, counts and threads."""

    def __init__(self, location: str, cache: CacheSection) -> None:
        self.process = os.getpid()
        self.location = location
        self.incidents = Incidents()
        self.requests = Requests(
            open_file_system(location, cache), cache.retries, cache.timeout, self.incidents
        )
        self.files = DiskCache(Path(cache.folder), int(cache.gib * 2**30), self.incidents)
        self.prefetch = Prefetch(self._ahead, cache.connections, self.files.limit // 2)
        self._faults: dict[str, tuple[float, DamagedSampleError]] = {}
        self._early: set[str] = set()  # fetched ahead, and not asked for yet

    def path(self, name: str) -> str:
        parts = name.split("/")
        if not name or "\\" in name or "\0" in name or "::" in name or {"", ".", ".."} & {*parts}:
            raise DamagedSampleError("unsafe name", f"{self.location}: {name!r}")
        base, query = self.location, ""
        if base.startswith(("http://", "https://")):
            split = urlsplit(base)
            base = split._replace(query="", fragment="").geturl()
            name, query = quote(name), f"?{split.query}" if split.query else ""
        return f"{base.rstrip('/')}/{name}{query}"

    def fetch(self, file: File, *, wait: bool) -> Path | None:
        name, size, digest = file
        path = self.path(name)
        self._raise_known_fault(path)
        known = size if size >= 0 else None
        try:
            if known is None and not digest:
                known = self.requests.size(path)
            key = digest or blake2b(f"{path}\0{known}".encode(), digest_size=16).digest()
            found = self.files.obtain(
                key, known, lambda right: self._download(right, path, known, digest), wait=wait
            )
        except DamagedSampleError as fault:
            self._faults[path] = (time.monotonic(), fault)
            raise
        if wait:
            self._early.discard(path)
        elif found:
            self._early.add(path)
        return found

    def _ahead(self, file: File) -> None:
        self.fetch(file, wait=False)

    def _raise_known_fault(self, path: str) -> None:
        since, fault = self._faults.get(path, (0.0, None))
        if fault is None:
            return
        if time.monotonic() - since < ASK_AGAIN:
            raise DamagedSampleError(fault.reason, fault.detail)
        self._faults.pop(path, None)

    def _download(self, right: Claim, path: str, size: int | None, digest: bytes) -> None:
        """Write a file whose bytes are the right ones; the same wrong ones twice are damage."""
        if path in self._early:
            self._early.discard(path)
            self.incidents.count(
                "cache too small",
                f"{path}: it was evicted before it was read; raise cache.gib in the recipe",
            )
        wrong: set[bytes] = set()
        for failures in range(1, self.requests.retries + 2):
            right.restart()
            found = blake2b(digest_size=16)
            for piece in self.requests.pieces(path, size):
                found.update(piece)
                self.files.append(right, piece)
            if not digest or found.digest() == digest:
                return
            self.incidents.count("wrong bytes", f"{path}: its digest is not the index's")
            if found.digest() in wrong:
                raise DamagedSampleError(
                    "damaged index" if path.endswith(".idx") else "damaged tar",
                    f"{path}: twice the same bytes, but not those that were indexed; index the "
                    "folder again if it was changed (flava data index)",
                )
            wrong.add(found.digest())
            self.requests.pause(path, failures)
        raise StoreError(
            f"{path}: wrong bytes {self.requests.retries + 1} times, different ones each time; "
            "check the network between this machine and the store (memory, proxies)"
        )


def open_file_system(location: str, cache: CacheSection) -> Any:
    """Make the file system of a location, for this process alone, that repeats nothing itself.

    Options that a store needs besides (an endpoint, anonymous access) come from fsspec's own
    configuration, as the variables ``FSSPEC_S3_ENDPOINT_URL`` or ``FSSPEC_S3='{"anon": true}'``.

    Args:
        location: A URL.
        cache: How many connections there will be, and how patient they are.

    Returns:
        An fsspec file system.

    Raises:
        StoreError: Its protocol is not known, or its package not installed.
    """
    import fsspec

    protocol, _, rest = location.partition("://")
    if "::" in location or not rest:
        raise StoreError(f"{location}: write it as one URL, s3://bucket/folder for example")
    options: dict[str, Any] = {"skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        configured = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
        options["config_kwargs"] = {
            "connect_timeout": cache.timeout,
            "read_timeout": cache.timeout,
            "max_pool_connections": cache.connections + 2,
            **configured,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        }
    make: Any = fsspec.core.url_to_fs
    try:
        file_system, _ = make(location, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        way_out = f"pip install 'flava-plugin[{extra}]'" if extra else "install what it names"
        raise StoreError(f"{location}: {error}; {way_out}") from error
    except ValueError as error:
        raise StoreError(f"{location}: {error}; write it as s3://bucket/folder") from error
    if hasattr(file_system, "retries"):  # s3fs and gcsfs; ours are counted, theirs would be hidden
        file_system.retries = 1
    return file_system
