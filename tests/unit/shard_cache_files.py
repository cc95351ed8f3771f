"""Files of one repeated byte, and caches for a few of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from flava_plugin.data.shards.cache import DiskCache, _let_all_go
from flava_plugin.data.shards.cache_claims import Claim
from flava_plugin.data.shards.remote_incidents import Incidents

SIZE = 1000


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def content(number: int, size: int = SIZE) -> bytes:
    return bytes([number % 256]) * size


def opened(folder: Path, files: float = 10) -> DiskCache:
    return DiskCache(folder, int(files * SIZE), Incidents())


def obtained(
    cache: DiskCache, number: int, size: int = SIZE, age: float = 0, *, held: bool = False
) -> Path:
    fill = filler(cache, content(number, size))
    path = cache.obtain(key(number), size, fill)
    assert path is not None
    if not held:
        _let_all_go(cache._held)
    if age:
        then = time.time() - age
        os.utime(path, (then, then))
    return path


def filler(cache: DiskCache, data: bytes) -> Callable[[Claim], None]:
    return lambda right: cache.append(right, data)


def never(_: Claim) -> None:
    raise AssertionError("it is there")
