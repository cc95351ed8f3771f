from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from fault_store import bytes_of
from shard_cache_files import SIZE, content, filler, key, never, obtained, opened

from flava_plugin.data.damage import StoreError
from flava_plugin.data.shards import cache_claims
from flava_plugin.data.shards.cache_claims import Claim, claim


def test_a_file_is_kept_over_runs(tmp_path: Path) -> None:
    path = obtained(opened(tmp_path), 1)
    assert opened(tmp_path).obtain(key(1), SIZE, never) == path
    assert path.read_bytes() == content(1)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, ".lock"}


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = opened(tmp_path, files=3)
    paths = [obtained(cache, number, age=100 - number) for number in range(3)]
    assert cache.find(key(0), SIZE) == paths[0]  # which makes 1 the oldest
    obtained(cache, 3)
    assert [path.exists() for path in paths] == [True, False, True]
    assert bytes_of(tmp_path) == 3 * SIZE


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    mine = tmp_path / "mine.tar"
    mine.write_bytes(bytes(50 * SIZE))
    for number in range(5):
        obtained(opened(tmp_path, files=2), number)
    assert mine.stat().st_size == 50 * SIZE
    assert bytes_of(tmp_path) == 2 * SIZE


def test_an_evicted_file_is_read_to_its_end(tmp_path: Path) -> None:
    cache = opened(tmp_path, files=1)
    with obtained(cache, 1).open("rb") as file:
        path = obtained(cache, 2)
        assert file.read() == content(1)
    assert path.read_bytes() == content(2)
    assert cache.find(key(1), SIZE) is None


def test_a_file_larger_than_the_cache_is_held_alone(tmp_path: Path) -> None:
    cache = opened(tmp_path, files=3)
    obtained(cache, 1)
    large = obtained(cache, 2, size=7 * SIZE)
    assert bytes_of(tmp_path) == large.stat().st_size == 7 * SIZE
    assert cache.incidents.take() == {"cache too small": 1}


def test_the_last_two_files_asked_for_stay(tmp_path: Path) -> None:
    """Whoever asks for a shard and its index gets to open both, however small the cache is."""
    cache, other = opened(tmp_path, files=0.5), opened(tmp_path, files=0.5)
    first, second = obtained(cache, 1, held=True), obtained(cache, 2, held=True)
    for number in (3, 4, 5):
        obtained(other, number)
    assert obtained(cache, 2, held=True) == second  # the same one twice is one
    assert first.exists() and second.exists()
    obtained(cache, 6, held=True)
    obtained(other, 7)
    assert not first.exists() and second.exists()
    del cache
    obtained(other, 8)
    assert not second.exists()


def test_a_file_of_unknown_size_counts_too(tmp_path: Path) -> None:
    cache = opened(tmp_path, files=3)
    old = obtained(cache, 1, age=10)
    path = cache.obtain(key(2), None, filler(cache, content(2, 3 * SIZE)))
    assert path and path.exists() and not old.exists()
    assert cache.find(key(2), None) == path


def test_a_file_of_the_wrong_size_is_fetched_again_and_counted(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    obtained(cache, 1).write_bytes(b"cut")
    assert obtained(cache, 1).read_bytes() == content(1)
    assert cache.incidents.take() == {"cache file damaged": 1}


def test_a_failed_fetch_leaves_nothing(tmp_path: Path) -> None:
    cache = opened(tmp_path)

    def fail(right: Claim) -> None:
        cache.append(right, b"half")
        raise StoreError("away")

    with pytest.raises(StoreError, match="away"):
        cache.obtain(key(1), SIZE, fail)
    assert not list(tmp_path.glob("*shard*")) and not cache_claims._open_locks
    assert obtained(cache, 1).read_bytes() == content(1)


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cache = opened(folder)
    tries = []

    def fill(right: Claim) -> None:
        cache.append(right, content(1))
        if not tries:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        tries.append(1)

    path = cache.obtain(key(1), SIZE, fill)
    assert path and path.read_bytes() == content(1) and len(tries) == 2


def test_a_full_disk_takes_files_before_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, write = opened(tmp_path), os.write
    paths = [obtained(cache, number, age=100 - number) for number in range(3)]

    def full(handle: int, data: Any) -> int:
        if sum(path.exists() for path in paths) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(cache_claims.os, "write", full)
    assert obtained(cache, 4).read_bytes() == content(4)
    assert [path.exists() for path in paths] == [False, False, True]
    assert cache.incidents.take() == {"cache disk full": 2}


def test_a_full_disk_without_anything_to_evict_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_claims.os, "write", full)
    with pytest.raises(StoreError, match=r"No space left.*free space on its disk"):
        obtained(opened(tmp_path), 4)


def test_a_folder_that_cannot_be_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cache\.folder that this user can write"):
        obtained(opened(tmp_path / "file" / "cache"), 1)


def test_what_is_not_needed_now_does_not_exceed_the_bound(tmp_path: Path) -> None:
    cache = opened(tmp_path, files=2)
    right = claim(cache._path(key(1)))
    assert right
    right.reserve(SIZE + 1)
    assert cache.obtain(key(2), SIZE, never, wait=False) is None
    assert obtained(cache, 2).exists()  # needed now
    assert cache.incidents.take() == {"cache too small": 1}
    right.release()
